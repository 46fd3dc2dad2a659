//go:build e2e

package e2e

import (
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// The operator gives Nomad namespaces their host users, and jobs stay as they are.
func TestNamespaces(t *testing.T) {
	configureAgent(t, "namespaces")
	for _, name := range []string{"team-b", "c-test"} {
		_, err := nomad.Namespaces().Register(&api.Namespace{Name: name}, nil)
		must.NoError(t, err)
		t.Cleanup(func() {
			_, err := nomad.Namespaces().Delete(name, nil)
			must.NoError(t, err)
		})
	}

	t.Run("refused before anything is started", func(t *testing.T) {
		for _, tc := range []struct {
			name, namespace, option, value, says string
		}{
			{"another's socket", "default", "socket", "team-b", `"team-b" is not open to the Nomad namespace "default" (plugin option socket.namespaces)`},
			{"another's host user", "default", "host_user", "team-b", `"team-b" is not open to the Nomad namespace "default" (plugin option socket.namespaces)`},
			{"no host users for it", "team-b", "host_user", "team-c", `tasks of the Nomad namespace "team-b" may name none (plugin option rootless.namespaces)`},
		} {
			t.Run(tc.name, func(t *testing.T) {
				j := run(t, "routing", only("unnamed"), option(tc.option, tc.value), inNamespace(tc.namespace))
				_, state := j.dead(t, "unnamed")
				must.StrContains(t, events(state), tc.says)
			})
		}
		for _, user := range []hostUser{teamB, teamC} {
			must.False(t, user.managerRuns())
			must.False(t, user.lingers())
		}
	})

	t.Run("one job, three host users", func(t *testing.T) {
		for namespace, user := range map[string]hostUser{"default": teamA, "team-b": teamB, "c-test": teamC} {
			t.Run(namespace, func(t *testing.T) {
				j := run(t, "routing", only("unnamed"), inNamespace(namespace))
				runsAs(t, j, "unnamed", user)
			})
		}
	})

	t.Run("named by those who may", func(t *testing.T) {
		j := run(t, "routing", only("unnamed"), option("socket", "team-b"), inNamespace("team-b"))
		runsAs(t, j, "unnamed", teamB)
	})
}

// inNamespace puts the job into a Nomad namespace, as `nomad job run -namespace` does.
func inNamespace(name string) func(*api.Job) { return func(j *api.Job) { j.Namespace = &name } }
