//go:build e2e

package e2e

import (
	"errors"
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

// crashFile is where the driver of this file's machine reads before which step it kills itself (driver/crash_on.go).
const crashFile = "/run/nomad-driver-podman.crash"

// steps are the steps of a start, and the moment after the last one.
var steps = []string{
	"claiming the container's name", "finding the endpoint", "activating the endpoint", "preparing the log process",
	"getting the image", "noting what is begun", "showing the task's directories", "describing the container",
	"looking for the container of an earlier try", "creating the container", "starting the container",
	"watching the container", "following the log", "returning",
}

// The driver is killed between any two steps of a start: the task runs all the same, once, and nothing is left.
func TestCrash(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			crash(t, step)
			j := run(t, "recovery", only("counter"))
			j.prints(t, "counter", "\n10\n")
			alloc := j.running(t, "counter")
			crashed(t)
			must.Len(t, 1, j.allocs(t), must.Sprint("the task has failed and was tried elsewhere"))
			must.Eq(t, []string{containerName(alloc, "counter")}, teamA.containers(t))
			must.SliceEmpty(t, stagingMounts(t))
		})
	}
}

// And when Nomad, too, has forgotten the task, the driver finds and removes what is left of it.
func TestCrashForgotten(t *testing.T) {
	configureAgent(t, "gc")
	for _, step := range []string{"describing the container", "starting the container", "following the log", "returning"} {
		t.Run(step, func(t *testing.T) {
			crash(t, step)
			parsed := parse(t, "recovery", only("counter"))
			_, _, err := nomad.Jobs().Register(parsed, nil)
			must.NoError(t, err)
			crashed(t)
			command(t, "systemctl", "stop", "nomad.service")
			for _, pid := range labClient.driverProcesses(t) {
				kill(t, pid)
			}
			_, _, err = nomad.Jobs().Deregister(*parsed.ID, true, nil)
			must.NoError(t, err)
			forget(t)
			command(t, "systemctl", "start", "nomad.service")

			eventually(t, "the removal of what is left", func() error {
				if left := teamA.containers(t); len(left) > 0 {
					return errors.New("there is " + left[0])
				}
				if mounts := stagingMounts(t); len(mounts) > 0 {
					return errors.New("there is " + mounts[0])
				}
				notes, err := os.ReadDir(stateDir + "/intents")
				if err == nil && len(notes) > 0 {
					err = errors.New("there is the note " + notes[0].Name())
				}
				return err
			})
		})
	}
}

// crash has the driver kill itself before a step of the next start.
func crash(t *testing.T, step string) {
	t.Helper()
	must.NoError(t, os.WriteFile(crashFile, []byte(step), 0o600))
}

// crashed waits until it has.
func crashed(t *testing.T) {
	t.Helper()
	eventually(t, "the driver to kill itself", func() error {
		if _, err := os.Stat(crashFile); !errors.Is(err, os.ErrNotExist) {
			return errors.New("it has not come to that step")
		}
		return nil
	})
}

// forget removes the client's memory of its allocations, and their directories, while the agent is stopped. The node
// keeps its identity.
func forget(t *testing.T) {
	t.Helper()
	must.NoError(t, os.Remove(labClient.dataDir+"/client/state.db"))
	command(t, "sh", "-c", "umount "+labClient.dataDir+"/alloc/*/*/secrets "+labClient.dataDir+"/alloc/*/*/private 2>/dev/null; rm -rf "+labClient.dataDir+"/alloc/*")
}
