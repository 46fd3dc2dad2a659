//go:build e2e

package e2e

import (
	"errors"
	"testing"

	"github.com/shoenig/test/must"
)

// What the driver has started for a host user ends after the user's last task, what it found running does not.
func TestRelease(t *testing.T) {
	configureAgent(t, "release")
	must.False(t, teamB.managerRuns())
	command(t, "loginctl", "enable-linger", teamC.name)
	t.Cleanup(func() { command(t, "loginctl", "disable-linger", teamC.name) })
	eventually(t, "the manager of team-c", func() error { return wantRunning(teamC, true) })

	// runsAs asks every user's podman: team-b, whose manager ends, comes last.
	for _, user := range []hostUser{teamC, teamB} {
		t.Run(user.name, func(t *testing.T) {
			j := run(t, "routing", only("user"), optionOf("user", "host_user", user.name))
			runsAs(t, j, "user", user)
		})
	}

	eventually(t, "the end of the manager of team-b", func() error { return wantRunning(teamB, false) })
	must.False(t, teamB.lingers())
	eventually(t, "the end of the socket of team-c", func() error {
		if state, _ := teamC.trySystemctl("is-active", "podman.socket"); state != "inactive" {
			return errors.New("it is " + state)
		}
		return nil
	})
	must.True(t, teamC.managerRuns())
	must.True(t, teamC.lingers())

	// And all of it is started again.
	j := run(t, "routing", only("user"))
	runsAs(t, j, "user", teamB)
	must.True(t, teamB.lingers())
}

func wantRunning(user hostUser, want bool) error {
	if user.managerRuns() != want {
		return errors.New("not yet")
	}
	return nil
}
