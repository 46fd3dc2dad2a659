//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
)

// listed is what `sockets -json` says about an endpoint.
type listed struct {
	Name, State, Reason string
	HostUser            string `json:"host_user"`
	UID                 *int
	SocketPath          string `json:"socket_path"`
	Manager             *struct {
		Unit, State string
		Lingers     bool
	}
	SocketUnit *struct {
		State  string
		Masked bool
	} `json:"socket_unit"`
	Controllers []string
	Podman      *struct {
		Version    string
		APIVersion string `json:"api_version"`
	}
	Tasks              *int
	Namespaces         []string
	DefaultFor         []string `json:"default_for"`
	Default            bool
	HostUserNamespaces []string `json:"host_user_namespaces"`
}

// listSockets runs the subcommand as a user of the machine. What it lists is by name.
func listSockets(t *testing.T, as hostUser, args ...string) map[string]listed {
	t.Helper()
	out := command(t, "runuser", append([]string{"-u", as.name, "--", pluginFile, "sockets", "-json"}, args...)...)
	var records []listed
	must.NoError(t, json.Unmarshal([]byte(out), &records))
	byName := map[string]listed{}
	for _, record := range records {
		byName[record.Name] = record
	}
	must.MapLen(t, len(records), byName)
	return byName
}

func TestSockets(t *testing.T) {
	t.Run("before any task", func(t *testing.T) {
		found := listSockets(t, root)
		must.MapContainsKeys(t, found, []string{"default", "rootful", "team-b", "team-c", "team-d"})
		must.MapLen(t, 5, found)
		teamAs := found["default"]
		must.Eq(t, "inactive", teamAs.State, must.Sprint(teamAs.Reason))
		must.Eq(t, "team-a", teamAs.HostUser)
		must.Eq(t, 2001, *teamAs.UID)
		must.Eq(t, "/run/user/2001/podman/podman.sock", teamAs.SocketPath)
		must.Eq(t, "user@2001.service", teamAs.Manager.Unit)
		must.Eq(t, "inactive", teamAs.Manager.State)
		must.False(t, teamAs.Manager.Lingers)
		must.Eq(t, "inactive", teamAs.SocketUnit.State)
		must.SliceEmpty(t, teamAs.Controllers)
		must.Nil(t, teamAs.Podman)
		must.Nil(t, teamAs.Tasks)
		must.Eq(t, []string{"*"}, teamAs.Namespaces)
		must.True(t, teamAs.Default)
		must.Eq(t, []string{"*"}, teamAs.HostUserNamespaces)
		must.SliceEmpty(t, found["rootful"].HostUserNamespaces)
		must.Nil(t, found["rootful"].Manager)
		must.SliceEmpty(t, found["team-b"].Namespaces)

		out := command(t, pluginFile, "sockets")
		must.RegexMatch(t, regex(`(?m)^default +inactive +team-a +2001 +inactive +inactive +- +- +- +- +\* +others +\* +/run/user/2001/podman/podman.sock$`), out)

		for _, user := range []hostUser{teamA, teamB, teamC, teamD} {
			must.False(t, user.managerRuns())
			must.False(t, user.lingers())
		}
	})

	t.Run("who may use them", func(t *testing.T) {
		config, err := filepath.Abs("testdata/agent/namespaces.hcl")
		must.NoError(t, err)
		found := listSockets(t, root, "-config", config)
		must.MapLen(t, 4, found)
		must.Eq(t, []string{"team-b"}, found["team-b"].Namespaces)
		must.Eq(t, []string{"c-*"}, found["team-c"].DefaultFor)
		must.Eq(t, []string{"default", "c-*"}, found["team-d"].HostUserNamespaces)
		must.True(t, found["default"].Default)
	})

	j := run(t, "routing", only("unnamed"))
	runningAs(t, j, "unnamed", teamA)

	// listActive lists as often as it takes: on a slow machine a podman that has to be started may be given up at first.
	listActive := func(t *testing.T, as hostUser) map[string]listed {
		t.Helper()
		var found map[string]listed
		eventually(t, "an active podman", func() error {
			found = listSockets(t, as)
			if found["default"].State != "active" {
				return errors.New(found["default"].Reason)
			}
			return nil
		})
		return found
	}
	runs := func(t *testing.T, found listed) {
		t.Helper()
		must.Eq(t, "", found.Reason)
		must.Eq(t, "active", found.Manager.State)
		must.True(t, found.Manager.Lingers)
		must.Eq(t, "active", found.SocketUnit.State)
		must.False(t, found.SocketUnit.Masked)
		must.SliceContainsSubset(t, found.Controllers, []string{"memory", "pids"})
		must.Eq(t, teamA.podman(t, "version", "--format", "{{.Client.Version}}"), found.Podman.Version)
		must.Eq(t, teamA.podman(t, "version", "--format", "{{.Client.APIVersion}}"), found.Podman.APIVersion)
		must.Eq(t, 1, *found.Tasks)
	}
	t.Run("with a task", func(t *testing.T) {
		found := listActive(t, root)
		runs(t, found["default"])
		must.Eq(t, "inactive", found["team-b"].State)
		must.False(t, teamB.managerRuns())
	})

	t.Run("as an ordinary user", func(t *testing.T) {
		found := listActive(t, teamA)
		must.MapLen(t, 1, found)
		runs(t, found["default"])

		found = listSockets(t, teamD)
		must.MapLen(t, 1, found)
		must.Eq(t, "inactive", found["team-d"].State, must.Sprint(found["team-d"].Reason))
		must.False(t, teamD.managerRuns())
	})

	t.Run("masked", func(t *testing.T) {
		teamA.systemctl(t, "mask", "--now", "podman.socket")
		t.Cleanup(func() { teamA.systemctl(t, "unmask", "podman.socket") })
		for _, user := range []hostUser{root, teamA} {
			found := listSockets(t, user)["default"]
			must.Eq(t, "unusable", found.State)
			must.StrContains(t, found.Reason, "as root, run: systemctl --user --machine=team-a@ unmask podman.socket")
			must.True(t, found.SocketUnit.Masked)
			must.Eq(t, "inactive", found.SocketUnit.State)
			must.Nil(t, found.Tasks)
		}
		must.Eq(t, "inactive", listSockets(t, root)["team-b"].State)
	})

	t.Run("podman hangs", func(t *testing.T) {
		teamA.systemctl(t, "start", "podman.socket", "podman.service")
		pid := number(t, teamA.systemctl(t, "show", "--property=MainPID", "--value", "podman.service"))
		must.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
		t.Cleanup(func() { must.NoError(t, syscall.Kill(pid, syscall.SIGCONT)) })
		found := listSockets(t, root)
		must.Eq(t, "unusable", found["default"].State)
		must.StrContains(t, found["default"].Reason, "podman did not answer within 15s")
		must.Eq(t, "inactive", found["team-b"].State)
	})
}
