//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

func TestExits(t *testing.T) { testExits(t, labClient) }

func testExits(t *testing.T, on client, edits ...func(*api.Job)) {
	j := run(t, "exits", append(edits, on.place)...)

	// The end comes from outside for these two.
	killed := on.tasks.container(t, j.running(t, "killed"), "killed")
	must.NoError(t, syscall.Kill(killed.State.Pid, syscall.SIGKILL))
	must.NoError(t, nomad.Allocations().Signal(j.running(t, "signalled"), nil, "signalled", "SIGUSR1"))

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
			must.Eq(t, fmt.Sprint(tc.oom), exit.Details["oom_killed"], must.Sprint(exit.DisplayMessage))
			must.Eq(t, tc.failed, state.Failed)
			if tc.oom {
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
