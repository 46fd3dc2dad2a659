//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/exits"
)

func TestExits(t *testing.T) { testExits(t, labClient) }

func testExits(t *testing.T, on client, edits ...func(*api.Job)) {
	j := run(t, "exits", append(edits, on.place)...)

	// The end comes from outside for these.
	killed := on.tasks.container(t, j.running(t, "killed"), "killed")
	must.NoError(t, syscall.Kill(killed.State.Pid, syscall.SIGKILL))
	must.NoError(t, nomad.Allocations().Signal(j.running(t, "signalled"), nil, "signalled", "SIGUSR1"))
	// A task that runs by Nomad's word was looked at, however long its start took.
	on.letGo(t, j.running(t, "oom"), "oom")

	for _, tc := range []struct {
		task         string
		code, signal int
		failed, oom  bool
	}{
		{task: "zero"},
		{task: "one", code: 1, failed: true},
		// podman records a signal as 128 and its number, so that this exit looks like SIGKILL, as in a shell.
		{task: "code-137", code: 137, signal: 9, failed: true},
		{task: "killed", code: 137, signal: 9, failed: true},
		{task: "signalled", code: 138, signal: 10, failed: true},
		{task: "oom", code: 137, signal: 9, failed: true, oom: true},
		{task: "oom-at-once", code: 137, signal: 9, failed: true, oom: true},
	} {
		t.Run(tc.task, func(t *testing.T) {
			alloc, state := j.dead(t, tc.task)
			exit := terminated(t, state)
			must.Eq(t, fmt.Sprint(tc.code), exit.Details["exit_code"], must.Sprint(exit.DisplayMessage))
			must.Eq(t, fmt.Sprint(tc.signal), exit.Details["signal"], must.Sprint(exit.DisplayMessage))
			must.Eq(t, tc.failed, state.Failed)
			// Of an end before the first look only the kernel's log tells, which is root's to read.
			if on.user == root || tc.task != "oom-at-once" {
				must.Eq(t, fmt.Sprint(tc.oom), exit.Details["oom_killed"], must.Sprint(exit.DisplayMessage))
			}
			if exit.Details["oom_killed"] == "true" {
				must.StrContains(t, exit.DisplayMessage, "OOM Killed")
			}
			eventually(t, "the removal of the container", func() error {
				if slices.Contains(on.tasks.containers(t), containerName(alloc, tc.task)) {
					return fmt.Errorf("%s is still there", containerName(alloc, tc.task))
				}
				return nil
			})
		})
	}
}

func TestStop(t *testing.T) { testStop(t, labClient) }

func testStop(t *testing.T, on client, edits ...func(*api.Job)) {
	j := run(t, "stop", append(edits, on.place)...)
	tasks := []string{"kill-signal", "default-signal", "deaf"}
	for _, task := range tasks {
		j.prints(t, task, "ready")
	}
	j.stop(t)

	t.Run("kill_signal is what the process sees", func(t *testing.T) {
		alloc, state := j.dead(t, "kill-signal")
		must.Eq(t, "ready\ngot SIGINT\n", string(j.log(t, alloc, "kill-signal", "stdout")))
		must.Eq(t, "3", terminated(t, state).Details["exit_code"])
	})

	t.Run("without it that is SIGTERM", func(t *testing.T) {
		alloc, state := j.dead(t, "default-signal")
		must.Eq(t, "ready\ngot SIGTERM\n", string(j.log(t, alloc, "default-signal", "stdout")))
		must.Eq(t, "4", terminated(t, state).Details["exit_code"])
	})

	t.Run("who ignores it is killed after kill_timeout", func(t *testing.T) {
		_, state := j.dead(t, "deaf")
		exit := terminated(t, state)
		must.Eq(t, "137", exit.Details["exit_code"])
		must.Eq(t, "9", exit.Details["signal"])
		took := time.Duration(exit.Time - event(t, state, api.TaskKilling).Time)
		must.GreaterEq(t, 4*time.Second, took)
		must.Less(t, 30*time.Second, took)
	})
}

// A thousand processes, each in a cgroup of its own that is watched, too, end at once. Each end is noticed, its cgroup
// was looked at before, and the one that lives on is left alone.
func TestThousandExits(t *testing.T) {
	const count = 1000
	hierarchy, err := cgroupv2.Mounted()
	must.NoError(t, err)
	const storm = "/e2e-storm"
	dir := filepath.Join(hierarchy.Root, storm)
	must.NoError(t, os.Mkdir(dir, 0o755))
	must.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids"), 0))
	loop, err := exits.New()
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, loop.Close()) })

	type member struct {
		process *exec.Cmd
		watched *exits.Watched
		cgroup  *cgroupv2.Reader
		looks   atomic.Int32
	}
	join := func(parent, name string) *member {
		path := filepath.Join(parent, name)
		must.NoError(t, os.Mkdir(filepath.Join(hierarchy.Root, path), 0o755))
		fd, err := os.Open(filepath.Join(hierarchy.Root, path))
		must.NoError(t, err)
		defer func() { must.NoError(t, fd.Close()) }()
		m := &member{process: exec.Command("sleep", "1d")}
		m.process.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
		must.NoError(t, m.process.Start())
		id, err := exits.Identify(m.process.Process.Pid)
		must.NoError(t, err)
		m.watched, err = loop.Watch(id)
		must.NoError(t, err)
		m.cgroup, err = hierarchy.Open(path)
		must.NoError(t, err)
		must.NoError(t, m.watched.LookAt(func(*os.File) { m.looks.Add(1) }, m.cgroup.Events()...))
		return m
	}
	leave := func(m *member) {
		must.NoError(t, m.watched.Close())
		must.NoError(t, m.cgroup.Close())
	}

	survivor := join("/", "e2e-survivor")
	t.Cleanup(func() {
		must.NoError(t, survivor.process.Process.Kill())
		_ = survivor.process.Wait()
		leave(survivor)
		must.NoError(t, os.Remove(filepath.Join(hierarchy.Root, "e2e-survivor")))
	})
	members := make([]*member, count)
	for i := range members {
		members[i] = join(storm, fmt.Sprint(i))
	}
	for _, m := range members {
		select {
		case <-m.watched.Done():
			t.Fatalf("process %d runs, but is done", m.process.Process.Pid)
		default:
		}
	}

	must.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0))
	deadline := time.After(patience)
	for i, m := range members {
		select {
		case <-m.watched.Done():
		case <-deadline:
			t.Fatalf("the end of process %d was not noticed", m.process.Process.Pid)
		}
		must.Positive(t, m.looks.Load())
		// It has ended, as nobody has waited for it yet, of what the watch says.
		err := m.process.Wait()
		status, ok := m.process.ProcessState.Sys().(syscall.WaitStatus)
		must.True(t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, must.Sprint(err))
		must.ErrorIs(t, m.watched.Signal(0), exits.ErrGone)
		var usage cgroupv2.Stats
		must.NoError(t, m.cgroup.Read(&usage))
		must.Zero(t, usage.PIDs)
		leave(m)
		must.NoError(t, os.Remove(filepath.Join(dir, fmt.Sprint(i))))
	}
	must.NoError(t, os.Remove(dir))
	select {
	case <-survivor.watched.Done():
		t.Fatal("the survivor is done, but runs")
	default:
	}
}
