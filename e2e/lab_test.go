//go:build e2e

// Package e2e tests the driver from the outside: job files run under a real Nomad in the lab's machine, and what is
// asserted is what a user would see with Nomad, podman, systemctl and the cgroup files. Each test file has a machine
// of its own, in which its tests run one after the other as root; see run.
package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// patience bounds every wait. It ends what hangs, not what is slow: the machine may be emulated.
const patience = 10 * time.Minute

// nomad is the API of the lab's server, which goes on while the client agent is restarted.
var nomad *api.Client

func TestMain(m *testing.M) {
	if victims := os.Getenv(liarEnv); victims != "" {
		fmt.Fprintln(os.Stderr, lieAndServe(victims))
		os.Exit(1)
	}
	if shared := os.Getenv(racerEnv); shared != "" {
		fmt.Fprintln(os.Stderr, race(shared))
		os.Exit(1)
	}
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	nomad = client
	if err := within(patience, driverReady); err != nil {
		fmt.Fprintln(os.Stderr, "the lab's node does not offer the driver:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// driverReady tells whether the lab's node can run tasks of this driver.
func driverReady() error {
	_, err := readyNode()
	return err
}

func readyNode() (*api.Node, error) { return labClient.readyNode() }

// within tries until the condition holds. The error is the condition's last one.
func within(limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-ticker.C
	}
}

// eventually waits until the condition holds and fails the test when that takes too long.
func eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	must.NoError(t, within(patience, condition), must.Sprintf("%s: not within %s", what, patience))
}
