//go:build e2e

package e2e

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/shoenig/test/must"
)

func TestGC(t *testing.T) {
	configureAgent(t, "gc")
	endedJob(t) // activates the endpoint and has its image

	t.Run("containers that no task owns", func(t *testing.T) {
		forgotten, elsewhere := stray(t, nodeID(t)), stray(t, "another-node")
		teamA.podman(t, "create", "--name", "persons", "busybox", "true")
		t.Cleanup(func() { teamA.podman(t, "rm", elsewhere, "persons") })
		endedJob(t)
		eventually(t, "the removal of the stray container", func() error {
			if slices.Contains(teamA.containers(t), forgotten) {
				return errors.New("it is there")
			}
			return nil
		})
		must.SliceContainsAll(t, []string{elsewhere, "persons"}, teamA.containers(t))
	})

	t.Run("only said", func(t *testing.T) {
		configureAgent(t, "gc-dry-run")
		spared := stray(t, nodeID(t))
		t.Cleanup(func() { teamA.podman(t, "rm", spared) })
		endedJob(t)
		eventually(t, "the driver's word about the stray container", func() error {
			// Fails while there is no such line.
			_, err := try("journalctl", "--unit=nomad.service", "--output=cat", "--grep=a container has no task.*removing=false")
			return err
		})
		must.SliceContains(t, teamA.containers(t), spared)
	})

	t.Run("off", func(t *testing.T) {
		configureAgent(t, "gc-off")
		alloc := endedJob(t)
		name := containerName(alloc, "zero")
		must.SliceContains(t, teamA.containers(t), name)
		teamA.podman(t, "rm", name)
	})
}

// stray makes a container with the name and the labels that this driver would give it, and returns its name.
func stray(t *testing.T, node string) string {
	t.Helper()
	const task = "stray"
	alloc := &api.Allocation{ID: uuid.Generate()}
	name := containerName(alloc, task)
	teamA.podman(t, "create", "--name", name, "--label", "com.hashicorp.nomad.node_id="+node,
		"--label", "com.hashicorp.nomad.alloc_id="+alloc.ID, "--label", "com.hashicorp.nomad.task_name="+task, "busybox", "true")
	// Past the grace.
	created := teamA.podman(t, "inspect", "--format", "{{.Created.Unix}}", name)
	old := time.Unix(int64(number(t, created)), 0).Add(2 * time.Second)
	eventually(t, "container "+name+" to be old enough", func() error {
		if time.Now().Before(old) {
			return errors.New("it is new")
		}
		return nil
	})
	return name
}

// endedJob runs a job to its end, at which the driver looks for what is left over.
func endedJob(t *testing.T) (alloc *api.Allocation) {
	t.Helper()
	t.Run("job", func(t *testing.T) {
		j := run(t, "exits", only("zero"))
		alloc, _ = j.dead(t, "zero")
	})
	return alloc
}

func nodeID(t *testing.T) string {
	t.Helper()
	node, err := readyNode()
	must.NoError(t, err)
	return node.ID
}

// With recover_stopped a container that ended while nobody looked is started again.
func TestRecoverStopped(t *testing.T) {
	configureAgent(t, "recover-stopped")
	j := run(t, "fates")
	j.prints(t, "fate", "ready\n")
	alloc := j.running(t, "fate")
	first := teamA.container(t, alloc, "fate")
	endUnseen(t, first)

	j.prints(t, "fate", "ready\nready\n")
	again := teamA.container(t, alloc, "fate")
	must.Eq(t, first.ID, again.ID)
	must.NotEq(t, first.State.Pid, again.State.Pid)
	state := j.says(t, "fate", "Started the container again")
	must.Eq(t, "running", state.State)

	teamA.podman(t, "kill", "--signal", "TERM", again.ID)
	_, state = j.dead(t, "fate")
	must.Eq(t, "9", terminated(t, state).Details["exit_code"], must.Sprint(events(state)))
}
