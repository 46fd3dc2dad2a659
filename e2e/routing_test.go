//go:build e2e

package e2e

import (
	"slices"
	"testing"

	"github.com/shoenig/test/must"
)

func TestRouting(t *testing.T) {
	t.Run("the lab's configuration", func(t *testing.T) {
		must.False(t, teamB.managerRuns())
		j := run(t, "routing")
		runsAs(t, j, "unnamed", teamA)
		runsAs(t, j, "named", root)
		runsAs(t, j, "user", teamB)
		must.True(t, teamA.lingers())
		must.True(t, teamB.lingers())
		must.False(t, teamC.managerRuns())
	})

	t.Run("socket blocks of host users", func(t *testing.T) {
		configureAgent(t, "routing")
		node, err := readyNode()
		must.NoError(t, err)
		must.StrContains(t, node.Drivers["podman"].HealthDescription, "broken")

		t.Run("run", func(t *testing.T) {
			j := run(t, "routing", optionOf("named", "socket", "system"), optionOf("user", "host_user", teamD.name))
			runsAs(t, j, "unnamed", teamC)
			runsAs(t, j, "named", root)
			runsAs(t, j, "user", teamD)
			must.False(t, teamC.lingers())
			must.False(t, teamD.lingers())
		})
		t.Run("refused", func(t *testing.T) {
			j := run(t, "routing", only("named", "user"), optionOf("named", "socket", "broken"))
			_, state := j.dead(t, "user")
			must.StrContains(t, events(state), "UID 2002 is below the agent's rootless.min_uid (2003)")
			_, state = j.dead(t, "named")
			must.StrContains(t, events(state), "team-unknown")
		})
	})

	t.Run("socket_path", func(t *testing.T) {
		configureAgent(t, "socket-path")
		j := run(t, "routing", only("unnamed", "user"))
		runsAs(t, j, "unnamed", root)
		_, state := j.dead(t, "user")
		must.StrContains(t, events(state), "rootless.allow_users")
	})
}

// runsAs asserts that the task's container is the user's and nobody else's.
func runsAs(t *testing.T, j *job, task string, owner hostUser) {
	t.Helper()
	name := containerName(j.running(t, task), task)
	for _, user := range []hostUser{root, teamA, teamB, teamC, teamD} {
		must.Eq(t, user == owner, slices.Contains(user.containers(t), name), must.Sprintf("container %s of %s", name, user.name))
	}
}
