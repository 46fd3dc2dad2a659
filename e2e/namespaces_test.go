//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
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

	// Last: the agent keeps this configuration until the test ends.
	t.Run("closed while its tasks run", testClosedNamespace)
}

// A task whose namespace may no longer use its host user runs on, but nothing new is done for it.
func testClosedNamespace(t *testing.T) {
	j := run(t, "routing", only("unnamed", "named"), optionOf("named", "socket", "team-b"), inNamespace("team-b"))
	alloc := j.running(t, "unnamed")
	before := teamB.container(t, alloc, "unnamed")
	ended := teamB.container(t, j.running(t, "named"), "named")
	code, _, stderr := j.exec(t, alloc, "unnamed", nothing(), "true")
	must.Eq(t, 0, code, must.Sprint(stderr))

	stopAgent(t)
	teamB.end(t, ended, "KILL")
	closed, err := os.ReadFile("testdata/agent/namespaces-closed.hcl") // with recover_stopped
	must.NoError(t, err)
	restartAgent(t, closed)

	const refusal = `the Nomad namespace "team-b" may not use host user team-b any more: "team-b" is not open to the Nomad namespace "team-b" (plugin option socket.namespaces)`
	j.says(t, "unnamed", "This task would be refused now: "+refusal)
	_, state := j.dead(t, "named")
	must.StrContains(t, events(state), "Did not start the container again, which was found ended (plugin option recover_stopped): "+refusal)

	_, _, stderr, err = tryExec(t.Context(), alloc, "unnamed", nothing(), "true")
	must.Error(t, err) // which Nomad does not tell: it is too long
	must.StrHasPrefix(t, `task unnamed: running "true" in its container: `+refusal+"; open the host user to the namespace", stderr)
	err = nomad.Allocations().Signal(alloc, nil, "unnamed", "SIGUSR1")
	must.ErrorContains(t, err, "task unnamed: sending SIGUSR1: "+refusal)

	j.running(t, "unnamed")
	must.Eq(t, before.State.Pid, teamB.container(t, alloc, "unnamed").State.Pid)
	j.stop(t)
	_, state = j.dead(t, "unnamed")
	must.False(t, state.Failed, must.Sprint(events(state)))
	must.Eq(t, 1, strings.Count(events(state), "would be refused now"))
	eventually(t, "the removal of the containers", func() error {
		if left := teamB.containers(t); len(left) > 0 {
			return fmt.Errorf("there are %q", left)
		}
		return nil
	})
}

// inNamespace puts the job into a Nomad namespace, as `nomad job run -namespace` does.
func inNamespace(name string) func(*api.Job) { return func(j *api.Job) { j.Namespace = &name } }
