//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// now is a time of the journal.
func now(t *testing.T) string { return command(t, "date", "+%s.%N") }

// What happens to one user's podman is noticed at once, does not touch the others', and is over when a task asks for it.
func TestTroubles(t *testing.T) {
	others := run(t, "routing", only("user"), renamed("routing-others"))
	bystander := runningAs(t, others, "user", teamB)
	for _, tc := range []struct {
		what   string
		do     func(*testing.T)
		says   string // what the driver says of team-a's podman.socket, which has ended; empty when it has not
		kept   bool   // the running task goes on
		mended func(*testing.T)
	}{
		{
			what: "podman.socket is stopped", says: "podman.socket is inactive", kept: true,
			do: func(t *testing.T) { teamA.systemctl(t, "stop", "podman.socket") },
		},
		{
			what: "podman.socket is masked", says: "podman.socket is inactive", kept: true,
			do:     func(t *testing.T) { teamA.systemctl(t, "mask", "--now", "podman.socket") },
			mended: func(t *testing.T) { teamA.systemctl(t, "unmask", "podman.socket") },
		},
		{
			what: "the user is logged out by force", says: "has ended",
			do: func(t *testing.T) { command(t, "loginctl", "terminate-user", teamA.name) },
		},
		{
			what: "the user's manager is stopped", says: "has ended",
			do: func(t *testing.T) { command(t, "systemctl", "stop", "user@2001.service") },
		},
		{
			what: "the system's bus is restarted", kept: true,
			do: func(t *testing.T) {
				// logind has to be started again with it.
				command(t, "systemctl", "restart", "dbus.service", "systemd-logind.service")
			},
		},
	} {
		t.Run(tc.what, func(t *testing.T) {
			j := run(t, "routing", only("unnamed"))
			before := runningAs(t, j, "unnamed", teamA)
			began := now(t)
			tc.do(t)
			if tc.says != "" {
				noticed(t, began, tc.says)
			}
			if tc.mended != nil {
				// Told to Nomad, and what asks for it now fails with the remedy.
				eventually(t, "the health of the socket", func() error { return socketHealth("unhealthy") })
				refused := run(t, "routing", only("unnamed"), renamed("routing-refused"))
				_, state := refused.dead(t, "unnamed")
				must.StrContains(t, events(state), "as root, run: systemctl --user --machine=team-a@ unmask podman.socket")
				tc.mended(t)
				eventually(t, "the health of the socket", func() error { return socketHealth("healthy") })
			}
			if tc.kept {
				must.Eq(t, before.State.Pid, runningAs(t, j, "unnamed", teamA).State.Pid)
			} else {
				_, state := j.dead(t, "unnamed")
				must.True(t, state.Failed, must.Sprint(events(state)))
			}
			again := run(t, "routing", only("unnamed"), renamed("routing-again"))
			runningAs(t, again, "unnamed", teamA)
			must.Eq(t, bystander.State.Pid, runningAs(t, others, "user", teamB).State.Pid)
		})
	}

	t.Run("the podman service is killed while a task starts", func(t *testing.T) {
		// podman forgets the network namespace that it was just making, with the pasta in it, which ends with the manager, and
		// its name in the runtime directory, which is kept for a user who lingers.
		t.Cleanup(func() { command(t, "systemctl", "stop", "user@2001.service", "user-runtime-dir@2001.service") })
		j := run(t, "routing", only("unnamed"), retried)
		eventually(t, "the podman service of team-a", func() error {
			pid := teamA.systemctl(t, "show", "--property=MainPID", "--value", "podman.service")
			if pid == "0" {
				return errors.New("it does not run")
			}
			return syscall.Kill(number(t, pid), syscall.SIGKILL)
		})
		runningAs(t, j, "unnamed", teamA)
		must.Eq(t, bystander.State.Pid, runningAs(t, others, "user", teamB).State.Pid)
	})
}

// runningAs is the container of a task that runs as the user.
func runningAs(t *testing.T, j *job, task string, user hostUser) container {
	t.Helper()
	found := user.container(t, j.running(t, task), task)
	_, err := os.Stat(found.cgroup())
	must.NoError(t, err)
	return found
}

// noticed asserts that the driver says so of a podman less than 2 s after systemd has said that its socket is closed.
func noticed(t *testing.T, since, says string) {
	t.Helper()
	const stopped = "9d1aaa27d60140bd96365438aad20286" // SD_MESSAGE_UNIT_STOPPED of sd-messages.h
	ended := journalTime(t, since, "MESSAGE_ID="+stopped, "USER_UNIT=podman.socket")
	said := journalTime(t, since, "--unit=nomad.service", "--grep=podman is not active any more: .*"+says)
	t.Logf("noticed after %s", said.Sub(ended))
	must.Less(t, 2*time.Second, said.Sub(ended))
}

// journalTime waits for an entry of the journal and returns its time.
func journalTime(t *testing.T, since string, matches ...string) time.Time {
	t.Helper()
	var entry time.Time
	eventually(t, fmt.Sprintf("an entry of the journal: %q", matches), func() error {
		out, err := try("journalctl", append([]string{"--quiet", "--output=short-unix", "--since=@" + since}, matches...)...)
		if err != nil {
			return err
		}
		var seconds float64
		if _, err := fmt.Sscan(out, &seconds); err != nil {
			return err
		}
		entry = time.UnixMicro(int64(seconds * 1e6))
		return nil
	})
	return entry
}

// socketHealth tells whether the health of the default socket is that.
func socketHealth(want string) error {
	node, err := readyNode()
	if err != nil {
		return err
	}
	if got := node.Attributes["driver.podman.health"]; got != want {
		return fmt.Errorf("it is %s", got)
	}
	return nil
}

// renamed gives the job another name.
func renamed(name string) func(*api.Job) { return func(j *api.Job) { j.ID, j.Name = &name, &name } }

// retried has tasks tried again soon.
func retried(j *api.Job) {
	attempts, delay, fail := 5, time.Second, "fail"
	for _, group := range j.TaskGroups {
		for _, task := range group.Tasks {
			task.RestartPolicy = &api.RestartPolicy{Attempts: &attempts, Delay: &delay, Mode: &fail}
		}
	}
}
