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

// remedied is what the remedy sets at run time.
const remedied = "/run/systemd/system.control/user@2001.service.d"

// The delegation changes under the running driver: what tasks get and what they and the node say follows it.
func TestDelegation(t *testing.T) {
	t.Cleanup(func() {
		for _, unit := range []string{"user@.service", "user-runtime-dir@.service", "user-.slice"} {
			must.NoError(t, os.RemoveAll("/etc/systemd/system/"+unit+".d"))
		}
		must.NoError(t, os.RemoveAll(remedied))
		command(t, "systemctl", "daemon-reload")
		command(t, "systemctl", "stop", "user-2001.slice")
		command(t, "systemctl", "start", "user@2001.service")
		offers(t, "cpu", "memory", "pids")
	})

	j := run(t, "delegation", only("plain"))
	plain := teamA.container(t, j.running(t, "plain"), "plain")
	offers(t, "cpu", "memory", "pids")

	var remedy string
	t.Run("not delegated", func(t *testing.T) {
		refused := run(t, "delegation", only("cores"), renamed("refused"))
		_, state := refused.dead(t, "cores")
		must.True(t, state.StartedAt.IsZero())
		must.StrContains(t, events(state), `cores needs the cgroup controller "cpuset", which is not delegated to host user team-a`)
		_, remedy, _ = strings.Cut(event(t, state, "Driver Failure").DisplayMessage, "as root, run: ")
		must.Len(t, 1, teamA.containers(t))
	})

	t.Run("delegated to the running manager", func(t *testing.T) {
		manager := command(t, "systemctl", "show", "--property=MainPID", "user@2001.service")
		command(t, "sh", "-c", remedy)
		granted := run(t, "delegation", only("cores"), renamed("granted"))
		pinned(t, granted, teamA)
		must.Eq(t, manager, command(t, "systemctl", "show", "--property=MainPID", "user@2001.service"))
		must.Eq(t, plain, teamA.container(t, j.running(t, "plain"), "plain"))
		offers(t, "cpuset", "cpu", "io", "memory", "pids")
	})

	t.Run("withdrawn", func(t *testing.T) {
		delegate(t, "memory pids")
		_, state := j.dead(t, "plain")
		must.True(t, state.Failed, must.Sprint(events(state)))
		warned := run(t, "delegation", renamed("warned"))
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

	t.Run("but for cpu", func(t *testing.T) {
		delegate(t, "cpu")
		warned := run(t, "delegation", only("plain"), renamed("unlimited"))
		alloc := warned.running(t, "plain")
		warned.says(t, "plain", `Not applied: memory needs the cgroup controller "memory", which is not delegated to host user team-a`)
		_, err := os.Stat(filepath.Join(teamA.container(t, alloc, "plain").cgroup(), "memory.max"))
		must.ErrorIs(t, err, os.ErrNotExist)
		offers(t, "cpu")
		limited := run(t, "delegation", only("plain"), renamed("limited"), option("pids_limit", 10))
		_, state := limited.dead(t, "plain")
		must.StrContains(t, events(state), "pids_limit needs the cgroup controller")
	})

	t.Run("required", func(t *testing.T) {
		delegate(t, "cpu")
		configureAgent(t, "delegation")
		j := run(t, "delegation", only("plain"), renamed("required"))
		_, state := j.dead(t, "plain")
		must.StrContains(t, events(state), `memory needs the cgroup controller "memory"`)
		must.True(t, state.StartedAt.IsZero())
	})
}

// delegate changes what is delegated, and ends team-a's manager: a running one keeps what its units use.
func delegate(t *testing.T, controllers string) {
	t.Helper()
	must.NoError(t, os.RemoveAll(remedied)) // a CPUWeight needs the controller cpu
	withhold(t, "99-less.conf", controllers)
	command(t, "systemctl", "stop", "user-2001.slice")
}

// withhold lets managers of host users that start from now on have these controllers only. The name of the drop-in decides
// whether that overrides the remedy's or is overridden.
func withhold(t *testing.T, dropIn, controllers string) {
	t.Helper()
	// Else systemd has these controllers for its accounting, in all units beside the manager, too.
	none := "MemoryAccounting=no\nTasksAccounting=no\nTasksMax=infinity\n"
	for unit, settings := range map[string]string{
		"user@.service":             "[Service]\nDelegate=\nDelegate=" + controllers + "\n" + none,
		"user-runtime-dir@.service": "[Service]\n" + none,
		"user-.slice":               "[Slice]\n" + none,
	} {
		dir := filepath.Join("/etc/systemd/system", unit+".d")
		must.NoError(t, os.MkdirAll(dir, 0o755))
		must.NoError(t, os.WriteFile(filepath.Join(dir, dropIn), []byte(settings), 0o644))
	}
	command(t, "systemctl", "daemon-reload")
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
