//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

// A task whose end podman cannot know is never reported as a success: the result says what happened.
func TestFates(t *testing.T) {
	for _, tc := range []struct {
		what string
		do   func(*testing.T, container)
		code string
		says string
	}{
		{
			what: "removed by its user", code: "137", says: "its container was removed outside Nomad",
			do: func(t *testing.T, c container) { teamA.podman(t, "rm", "--force", "--time", "0", c.ID) },
		},
		{
			what: "podman reset", says: "its container was removed outside Nomad",
			do: func(t *testing.T, _ container) { teamA.podman(t, "system", "reset", "--force") },
		},
		{
			what: "monitor killed", code: "-1", says: "its monitor (conmon) was killed",
			do: func(t *testing.T, c container) { kill(t, c.State.ConmonPid) },
		},
		{
			what: "manager stopped", says: "",
			do: func(t *testing.T, _ container) { command(t, "systemctl", "stop", "user@2001.service") },
		},
		{
			what: "manager killed", code: "-1", says: "the systemd manager of host user team-a was stopped while it ran",
			do: func(t *testing.T, _ container) {
				command(t, "systemctl", "kill", "--signal=SIGKILL", "--kill-whom=all", "user@2001.service")
			},
		},
		{
			what: "killed by its user", code: "137", says: "",
			do: func(t *testing.T, c container) { teamA.podman(t, "kill", c.ID) },
		},
	} {
		t.Run(tc.what, func(t *testing.T) {
			j := run(t, "fates")
			j.prints(t, "fate", "ready")
			alloc := j.running(t, "fate")
			tc.do(t, teamA.container(t, alloc, "fate"))
			_, state := j.dead(t, "fate")
			must.True(t, state.Failed, must.Sprint(events(state)))
			exit := terminated(t, state)
			must.NotEq(t, "0", exit.Details["exit_code"], must.Sprint(exit.DisplayMessage))
			if tc.code != "" {
				must.Eq(t, tc.code, exit.Details["exit_code"], must.Sprint(exit.DisplayMessage))
			}
			must.StrContains(t, exit.DisplayMessage, tc.says)
		})
	}

	t.Run("ended before it was taken up again", func(t *testing.T) {
		j := run(t, "fates")
		j.prints(t, "fate", "ready")
		alloc := j.running(t, "fate")
		endUnseen(t, teamA.container(t, alloc, "fate"))
		_, state := j.dead(t, "fate")
		must.Eq(t, "9", terminated(t, state).Details["exit_code"], must.Sprint(events(state)))
	})
}

// endUnseen ends a container while neither agent nor driver run, and starts the agent again.
func endUnseen(t *testing.T, c container) {
	t.Helper()
	stopAgent(t)
	teamA.end(t, c, "TERM")
	command(t, "systemctl", "start", "nomad.service")
}

// stopAgent stops the agent, and the drivers that it leaves.
func stopAgent(t *testing.T) {
	t.Helper()
	command(t, "systemctl", "stop", "nomad.service")
	for _, pid := range labClient.driverProcesses(t) {
		kill(t, pid)
	}
}

// end sends a signal to a container of the user's and waits for its end.
func (u hostUser) end(t *testing.T, c container, signal string) {
	t.Helper()
	u.podman(t, "kill", "--signal", signal, c.ID)
	eventually(t, "the end of the container", func() error {
		if _, err := os.Stat(c.cgroup()); err == nil {
			return os.ErrExist
		}
		return nil
	})
}
