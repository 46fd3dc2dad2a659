//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

const pluginFile = "/opt/nomad/plugins/nomad-driver-podman"

// Whatever is killed or replaced: a running task is not disturbed, the exit code of one that ends meanwhile is right,
// and every line of log arrives, once unless the log process is killed.
func TestRecovery(t *testing.T) {
	j := run(t, "recovery", enders(6))
	counter := j.running(t, "counter")
	before := teamA.container(t, counter, "counter")
	again := false // lines may have come twice

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
		{"SIGKILL of the log process", func(t *testing.T) {
			kill(t, mainPID(t, logUnit))
			again = true
		}},
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
			undisturbed(t, j, counter, before, again)
		})
	}

	t.Run("the new binary carries the logs", func(t *testing.T) {
		eventually(t, "the log process of the new binary", func() error {
			return sameFile(fmt.Sprintf("/proc/%d/exe", mainPID(t, logUnit)), pluginFile)
		})
		undisturbed(t, j, counter, before, again)
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
// and its log is as counted says.
func undisturbed(t *testing.T, j *job, alloc *api.Allocation, before container, again bool) {
	t.Helper()
	now := teamA.container(t, alloc, "counter")
	must.Eq(t, before.ID, now.ID)
	must.Eq(t, before.State.Pid, now.State.Pid)
	_, state, _, err := j.state("counter", 0)
	must.NoError(t, err)
	must.Eq(t, "running", state.State)
	must.Eq(t, 0, state.Restarts)

	// Further than now, so that a log that hangs is seen.
	last := counted(t, j.log(t, alloc, "counter", "stdout"), again)
	j.prints(t, "counter", fmt.Sprintf("\n%d\n", last+50))
	counted(t, j.log(t, alloc, "counter", "stdout"), again)
}

// counted asserts that the whole lines of a log count from 1 and lack none, and returns how far. With again there may be
// lines twice: as many as the log process writes at a time, since it was killed once.
func counted(t *testing.T, log []byte, again bool) (last int) {
	t.Helper()
	repeated := 0
	for line := range bytes.Lines(log[:bytes.LastIndexByte(log, '\n')+1]) {
		seen := number(t, string(bytes.TrimSpace(line)))
		switch {
		case seen == last+1:
			last = seen
		case again && seen <= last:
			repeated += len(line)
		default:
			t.Fatalf("%d comes after %d", seen, last)
		}
	}
	must.LessEq(t, 64<<10, repeated)
	return last
}

func kill(t *testing.T, pid int) {
	t.Helper()
	must.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// mainPID is the main process of a unit of the system, which may be starting.
func mainPID(t testing.TB, unit string) (pid int) {
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
