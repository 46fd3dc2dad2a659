//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

const pluginFile = "/opt/nomad/plugins/nomad-driver-podman"

// Whatever is killed or replaced: a running task is not disturbed, the exit code of one that ends meanwhile is right,
// and every line of log arrives once.
func TestRecovery(t *testing.T) {
	j := run(t, "recovery", enders(6))
	counter := j.running(t, "counter")
	before := teamA.container(t, counter, "counter")

	for i, disturbance := range []struct {
		what string
		do   func(*testing.T)
	}{
		{"SIGKILL of the driver", func(t *testing.T) { kill(t, labClient.driverProcess(t)) }},
		{"SIGKILL of the agent", func(t *testing.T) { kill(t, mainPID(t, "nomad.service")) }},
		{"SIGKILL of both", func(t *testing.T) {
			driver := labClient.driverProcess(t)
			kill(t, mainPID(t, "nomad.service"))
			kill(t, driver)
		}},
		{"restart of the agent", func(t *testing.T) { command(t, "systemctl", "restart", "nomad.service") }},
		{"SIGKILL of the log process", func(t *testing.T) { kill(t, mainPID(t, "nomad-podman-logs.service")) }},
		{"a new plugin binary", replacePlugin},
	} {
		t.Run(disturbance.what, func(t *testing.T) {
			name, code := fmt.Sprintf("ender-%d", i), strconv.Itoa(i+3)
			ender := j.running(t, name)
			disturbance.do(t)
			// At once, readable to the task.
			path := filepath.Join(allocDir(ender.ID), name, "local", "code")
			must.NoError(t, os.WriteFile(path+".new", []byte(code), 0o644))
			must.NoError(t, os.Rename(path+".new", path))

			_, state := j.dead(t, name)
			must.Eq(t, code, terminated(t, state).Details["exit_code"], must.Sprint(events(state)))
			eventually(t, "the driver", driverReady)
			undisturbed(t, j, counter, before)
		})
	}

	t.Run("the new binary carries the logs", func(t *testing.T) {
		eventually(t, "the log process of the new binary", func() error {
			return sameFile(fmt.Sprintf("/proc/%d/exe", mainPID(t, "nomad-podman-logs.service")), pluginFile)
		})
		undisturbed(t, j, counter, before)
	})
}

// enders has the group "ender" and its task as often as needed, with a number behind their names.
func enders(count int) func(*api.Job) {
	return func(j *api.Job) {
		var groups []*api.TaskGroup
		for _, group := range j.TaskGroups {
			if *group.Name != "ender" {
				groups = append(groups, group)
				continue
			}
			for i := range count {
				name := fmt.Sprintf("ender-%d", i)
				copied, task := *group, *group.Tasks[0]
				copied.Name, task.Name = &name, name
				copied.Tasks = []*api.Task{&task}
				groups = append(groups, &copied)
			}
		}
		j.TaskGroups = groups
	}
}

// undisturbed asserts that the counter is the same as before, that there is no second one, and that it has counted on
// without a gap or a repetition in its log.
func undisturbed(t *testing.T, j *job, alloc *api.Allocation, before container) {
	t.Helper()
	now := teamA.container(t, alloc, "counter")
	must.Eq(t, before.ID, now.ID)
	must.Eq(t, before.State.Pid, now.State.Pid)
	_, state, _, err := j.state("counter", 0)
	must.NoError(t, err)
	must.Eq(t, "running", state.State)
	must.Eq(t, 0, state.Restarts)

	// Further than now, so that a log that hangs is seen.
	last := lastNumber(t, j.log(t, alloc, "counter", "stdout"))
	j.prints(t, "counter", fmt.Sprintf("\n%d\n", last+50))
	counted := j.log(t, alloc, "counter", "stdout")
	var want strings.Builder
	for i := range lastNumber(t, counted) {
		fmt.Fprintln(&want, i+1)
	}
	whole := counted[:bytes.LastIndexByte(counted, '\n')+1]
	sameLines(t, want.String(), whole)
}

// lastNumber is the number of the last whole line.
func lastNumber(t *testing.T, counted []byte) int {
	t.Helper()
	lines := strings.Fields(string(counted[:bytes.LastIndexByte(counted, '\n')+1]))
	must.SliceNotEmpty(t, lines)
	return number(t, lines[len(lines)-1])
}

func kill(t *testing.T, pid int) {
	t.Helper()
	must.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// mainPID is the main process of a unit of the system, which may be starting.
func mainPID(t *testing.T, unit string) (pid int) {
	t.Helper()
	eventually(t, "the main process of "+unit, func() error {
		pid = number(t, command(t, "systemctl", "show", "--property=MainPID", "--value", unit))
		if pid == 0 {
			return fmt.Errorf("it has none")
		}
		return nil
	})
	return pid
}

// replacePlugin installs another binary, which differs from the one before by a few bytes at its end, and restarts the
// agent.
func replacePlugin(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile(pluginFile)
	must.NoError(t, err)
	must.NoError(t, os.WriteFile(pluginFile+".new", append(program, "another"...), 0o755))
	must.NoError(t, os.Rename(pluginFile+".new", pluginFile))
	command(t, "systemctl", "restart", "nomad.service")
}

func sameFile(a, b string) error {
	first, err := os.Stat(a)
	if err != nil {
		return err
	}
	second, err := os.Stat(b)
	if err != nil {
		return err
	}
	if !os.SameFile(first, second) {
		return fmt.Errorf("%s is not %s", a, b)
	}
	return nil
}
