//go:build e2e

package e2e

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func TestAgentConfig(t *testing.T) {
	mute, err := net.Listen("unix", "/run/e2e-mute.sock")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, mute.Close()) })
	configureAgent(t, "options")
	t.Cleanup(func() {
		// The log process keeps the state directory that it was started with.
		command(t, "systemctl", "stop", "nomad-podman-logs.service")
		must.NoError(t, os.RemoveAll("/var/lib/e2e-state"))
	})

	t.Run("client_http_timeout", func(t *testing.T) {
		j := run(t, "routing", only("named"), option("socket", "mute"))
		_, state := j.dead(t, "named")
		must.StrContains(t, events(state), "/run/e2e-mute.sock")
		must.StrContains(t, events(state), "no answer within 10s (plugin option client_http_timeout)")
		took := time.Duration(event(t, state, "Driver Failure").Time - event(t, state, "Task Setup").Time)
		must.Between(t, 10*time.Second, took, 60*time.Second)
	})

	t.Run("state_dir", func(t *testing.T) {
		j := run(t, "routing", only("unnamed"))
		j.running(t, "unnamed")
		info, err := os.Stat("/var/lib/e2e-state")
		must.NoError(t, err)
		must.Eq(t, 0o700|os.ModeDir, info.Mode())
		entries, err := os.ReadDir("/var/lib/e2e-state")
		must.NoError(t, err)
		must.SliceNotEmpty(t, entries)
		_, err = os.Stat(stateDir + "/logs")
		must.ErrorIs(t, err, os.ErrNotExist)
	})
}
