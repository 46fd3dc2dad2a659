//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// Many tasks of users whose managers do not run share one activation of each user.
func TestStorm(t *testing.T) {
	users := map[string]hostUser{"b": teamB, "c": teamC, "d": teamD}
	for _, user := range users {
		must.False(t, user.managerRuns())
	}
	began := now(t)
	j := run(t, "storm")
	running := map[string][]*api.AllocationListStub{}
	eventually(t, "30 running tasks", func() error {
		clear(running)
		for _, stub := range j.allocs(t) {
			if stub.ClientStatus == api.AllocClientStatusRunning {
				running[stub.TaskGroup] = append(running[stub.TaskGroup], stub)
			}
		}
		for group := range users {
			if len(running[group]) < 10 {
				return fmt.Errorf("%d tasks of group %s", len(running[group]), group)
			}
		}
		return nil
	})

	for group, user := range users {
		userNS := ""
		for _, stub := range running[group] {
			must.Eq(t, 0, stub.TaskStates[group].Restarts)
			container := user.container(t, &api.Allocation{ID: stub.ID}, group)
			must.StrHasPrefix(t, fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service/", user.uid, user.uid), container.State.CgroupPath)
			first, last := user.subordinateIDs(t)
			for _, uid := range container.uids(t) {
				must.True(t, uid == user.uid || first <= uid && uid <= last, must.Sprint(uid))
			}
			ns := namespace(t, container.State.Pid, "user")
			if userNS == "" {
				userNS = ns
			}
			must.Eq(t, userNS, ns)
		}
		must.Eq(t, 1, journalLines(t, began, fmt.Sprintf("Started user@%d.service", user.uid)), must.Sprint(user.name))
		must.Eq(t, 1, journalLines(t, began, `podman is active: .*host user `+user.name), must.Sprint(user.name))
	}
}

// journalLines counts the entries of the system's journal since a time that match a regular expression.
func journalLines(t *testing.T, since, pattern string) int {
	t.Helper()
	command(t, "journalctl", "--sync")
	out, err := try("journalctl", "--quiet", "--output=cat", "--since=@"+since, "--grep="+pattern)
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || out != "") {
		t.Fatal(err) // 1: nothing matches
	}
	if out == "" {
		return 0
	}
	return strings.Count(out, "\n") + 1
}
