//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

// delegateFile is where an administrator says what is delegated to host users.
const delegateFile = "/etc/systemd/system/user@.service.d/delegate.conf"

// The delegation changes under the running driver: what tasks get and what they and the node say follows it.
func TestDelegation(t *testing.T) {
	t.Cleanup(func() {
		must.NoError(t, os.RemoveAll(filepath.Dir(delegateFile)))
		must.NoError(t, os.RemoveAll("/run/systemd/system.control/user@2001.service.d")) // what the remedy has set
		command(t, "systemctl", "daemon-reload")
		command(t, "systemctl", "restart", "user@2001.service")
		offers(t, "cpu", "memory", "pids")
	})

	j := run(t, "delegation", only("plain"))
	plain := teamA.container(t, j.running(t, "plain"), "plain")
	offers(t, "cpu", "memory", "pids")

	var remedy string
	t.Run("not delegated", func(t *testing.T) {
		refused := run(t, "delegation", only("cores"))
		_, state := refused.dead(t, "cores")
		must.True(t, state.StartedAt.IsZero())
		must.StrContains(t, events(state), `cores needs the cgroup controller "cpuset", which is not delegated to host user team-a`)
		_, remedy, _ = strings.Cut(event(t, state, "Driver Failure").DisplayMessage, "run as root: ")
		must.Len(t, 1, teamA.containers(t))
	})

	t.Run("delegated to the running manager", func(t *testing.T) {
		manager := command(t, "systemctl", "show", "--property=MainPID", "user@2001.service")
		command(t, "sh", "-c", remedy)
		granted := run(t, "delegation", only("cores"))
		pinned(t, granted, teamA)
		must.Eq(t, manager, command(t, "systemctl", "show", "--property=MainPID", "user@2001.service"))
		must.Eq(t, plain, teamA.container(t, j.running(t, "plain"), "plain"))
		offers(t, "cpuset", "cpu", "io", "memory", "pids")
	})

	t.Run("withdrawn", func(t *testing.T) {
		delegate(t, "memory pids")
		_, state := j.dead(t, "plain")
		must.True(t, state.Failed, must.Sprint(events(state)))
		warned := run(t, "delegation")
		alloc := warned.running(t, "plain")
		warned.says(t, "plain", `Not applied: cpu needs the cgroup controller "cpu", which is not delegated to host user team-a`)
		_, state = warned.dead(t, "cores")
		must.StrContains(t, events(state), "cores needs the cgroup controller")
		offers(t, "memory", "pids")
		limited := teamA.container(t, alloc, "plain")
		must.Eq(t, mebibytes(32), limited.cgroupFile(t, "memory.max"))
		_, err := os.Stat(filepath.Join(limited.cgroup(), "cpu.weight"))
		must.ErrorIs(t, err, os.ErrNotExist)
	})

	t.Run("required", func(t *testing.T) {
		configureAgent(t, "delegation")
		j := run(t, "delegation", only("plain"))
		_, state := j.dead(t, "plain")
		must.StrContains(t, events(state), `cpu needs the cgroup controller "cpu"`)
		must.True(t, state.StartedAt.IsZero())
	})
}

// delegate changes what is delegated, and starts team-a's manager anew: a running one keeps what its units use.
func delegate(t *testing.T, controllers string) {
	t.Helper()
	must.NoError(t, os.WriteFile(delegateFile, []byte("[Service]\nDelegate=\nDelegate="+controllers+"\n"), 0o644))
	command(t, "systemctl", "daemon-reload")
	command(t, "systemctl", "restart", "user@2001.service")
}

// offers waits until the node's attributes tell exactly these controllers of the default endpoint.
func offers(t *testing.T, controllers ...string) {
	t.Helper()
	want := strings.Join(controllers, ",")
	eventually(t, "the node's attributes", func() error {
		node, err := readyNode()
		if err != nil {
			return err
		}
		for _, name := range []string{"driver.podman.cgroupControllers", "driver.podman.default.cgroupControllers"} {
			if got := node.Attributes[name]; got != want {
				return fmt.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		return nil
	})
}
