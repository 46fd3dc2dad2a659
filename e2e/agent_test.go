//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// pluginConfig is the file of the agent's configuration with the driver's part.
const pluginConfig = "/etc/nomad.d/podman.hcl"

// configureAgent puts testdata/agent/NAME.hcl in place of the driver's configuration until the test ends, each time
// with a restart of the client agent.
func configureAgent(t *testing.T, name string) {
	t.Helper()
	original, err := os.ReadFile(pluginConfig)
	must.NoError(t, err)
	replacement, err := os.ReadFile(filepath.Join("testdata", "agent", name+".hcl"))
	must.NoError(t, err)
	t.Cleanup(func() { restartAgent(t, original) })
	restartAgent(t, replacement)
}

func restartAgent(t *testing.T, config []byte) {
	t.Helper()
	must.NoError(t, os.WriteFile(pluginConfig, config, 0o644))
	restarted := time.Now()
	command(t, "systemctl", "restart", "nomad.service")
	awaitDriver(t, restarted)
}

// awaitDriver waits for the driver of an agent that was restarted after a time.
func awaitDriver(t *testing.T, restarted time.Time) {
	t.Helper()
	eventually(t, "the driver after the agent's restart", func() error {
		node, err := readyNode()
		if err != nil {
			return err
		}
		if seen := node.Drivers["podman"].UpdateTime; seen.Before(restarted) {
			return fmt.Errorf("its last fingerprint is of %s, before the restart", seen)
		}
		return nil
	})
}
