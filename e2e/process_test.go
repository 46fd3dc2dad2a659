//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

func TestCommand(t *testing.T) {
	j := run(t, "process")
	must.Eq(t, "a b|$c|app|/usr/bin|jupiter|hello, world|command|blue\n", j.succeeded(t, "command"))
	must.StrHasPrefix(t, "Redis server v=", j.succeeded(t, "image-command"))
	must.Eq(t, "entrypoint command argument\n", j.succeeded(t, "entrypoint"))
	must.Eq(t, "argument\n", j.succeeded(t, "entrypoint-text"))
	_, state := j.dead(t, "entrypoint-text")
	must.StrContains(t, events(state), `config option "entrypoint" should be a list of strings`)
}

// What podman's inspect and the host's processes tell of containers.
func TestContainer(t *testing.T) {
	ownInit(t)
	j := run(t, "container")
	t.Run("labels", func(t *testing.T) { testLabels(t, j) })
	t.Run("init", func(t *testing.T) { testInit(t, j) })
}

func testLabels(t *testing.T, j *job) {
	alloc := j.running(t, "labels-block")
	labels := teamA.container(t, alloc, "labels-block").Config.Labels
	must.Eq(t, "red", labels["colour"])

	j.running(t, "labels-list")
	labels = teamA.container(t, alloc, "labels-list").Config.Labels
	must.Eq(t, "green", labels["colour"])
	must.Eq(t, "7", labels["number"])
	must.Eq(t, alloc.ID, labels["com.hashicorp.nomad.alloc_id"])
	must.Eq(t, "labels-list", labels["com.hashicorp.nomad.task_name"])
}

func testInit(t *testing.T, j *job) {
	alloc := j.running(t, "no-init")
	first := func(task string) (name string, pid int) {
		t.Helper()
		j.running(t, task)
		pid = teamA.container(t, alloc, task).State.Pid
		return procStatus(t, pid, "Name"), pid
	}
	name, _ := first("no-init")
	must.Eq(t, "sleep", name)
	name, _ = first("init")
	must.NotEq(t, "sleep", name)

	name, pid := first("init-path")
	must.NotEq(t, "sleep", name)
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	must.NoError(t, err)
	must.StrContains(t, string(mounts), "/usr/local/bin/own-init ")
}

// ownInit installs an init under the name that the job gives.
func ownInit(t *testing.T) {
	t.Helper()
	podmans := strings.Fields(command(t, "sh", "-c", "ls /usr/libexec/podman/catatonit /usr/bin/catatonit 2>/dev/null || true"))
	must.SliceNotEmpty(t, podmans)
	command(t, "install", podmans[0], "/usr/local/bin/own-init")
	t.Cleanup(func() { must.NoError(t, os.Remove("/usr/local/bin/own-init")) })
}
