//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// toldLie is what a host user's podman may answer.
type toldLie struct {
	name string
	says string // what the driver says to it; empty: the task runs
	more bool   // another lie of the kind is told in the first tier
}

// liesAbout are the lies, some of which are about processes of others and about a task of theirs.
func liesAbout(pids map[string]int, victim container) []toldLie {
	const named = "the endpoint names process %d as the container's first, but that runs in cgroup "
	return []toldLie{
		{name: "pid-of-a-user", says: fmt.Sprintf(named, pids["team-b"])},
		{name: "pid-of-a-task", says: fmt.Sprintf(named, pids["task"]), more: true},
		{name: "pid-of-root", says: fmt.Sprintf(named, pids["root"]), more: true},
		{name: "pid-1", says: fmt.Sprintf(named, 1)},
		{name: "pid-0", says: "0 is no process ID", more: true},
		{name: "pid-negative", says: "-1 is no process ID"},
		{name: "pid-huge", says: "1099511627776 is no process ID", more: true},
		{name: "cgroup-empty", says: `cgroup "" is not under user@2004.service`, more: true},
		{name: "cgroup-root", says: `cgroup "/" is not under user@2004.service`, more: true},
		{name: "cgroup-dots", says: `user@2001.service" is not under user@2004.service`},
		{name: "cgroup-of-task", says: victim.State.CgroupPath + `" is not under user@2004.service`},
		{name: "cgroup-long", says: "the answer's CgroupPath is too long", more: true},
		{name: "conmon-1", says: "the endpoint names process 1 as the container's monitor", more: true},
		{name: "conmon-of-user", says: fmt.Sprintf("the endpoint names process %d as the container's monitor", pids["team-b"])},
		{name: "log-shadow", says: `opening "/etc/shadow" as host user team-d: permission denied`},
		{name: "log-symlink", says: "too many levels of symbolic links"},
		{name: "log-hard-link", says: "has 2 hard links", more: true},
		{name: "log-fifo", says: "not a regular file"},
		{name: "log-directory", says: "is a directory", more: true},
		{name: "log-device", says: "not a regular file", more: true},
		{name: "log-memory", says: "permission denied", more: true},
		{name: "log-long", says: "the answer's LogConfig.Path is too long", more: true},
		{name: "id-of-no-container", says: "the answer has no ID of a container", more: true},
		{name: "id-of-a-task", says: "no such container"},
		{name: "another-container", says: "the answer is about another container"},
		{name: "body-endless", says: "answer too large"},
		{name: "body-dripping", says: "no answer within 1m0s"},
		{name: "body-of-a-gib", says: "answer too large", more: true},
		{name: "body-no-json", says: "reading the answer: invalid character '<'"},
		{name: "body-number", says: "reading the answer: json: cannot unmarshal number", more: true},
		{name: "mounts-of-nothings"},
		{name: "wait"},
		{name: "exec-pid"},
	}
}

// What a host user's podman answers is that user's word, and theirs alone is the harm when it is not true.
func TestLiar(t *testing.T)     { testLiar(t, false) }
func TestLiarMore(t *testing.T) { testLiar(t, true) }

func testLiar(t *testing.T, more bool) {
	bystander := run(t, "routing", only("unnamed"))
	victim := runningAs(t, bystander, "unnamed", teamA)
	pids := map[string]int{"team-b": sleeper(t, teamB), "root": sleeper(t, root), "task": victim.State.Pid}
	startLiar(t, victims{PIDs: pids, Cgroup: victim.State.CgroupPath, ID: victim.ID})
	configureAgent(t, "liar")
	driver := labClient.driverProcess(t)
	must.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", driver), []byte("5"), 0)) // forget the most it had

	// Before there is much to do: these ask podman about itself, which takes it a while.
	honest := run(t, "liar", renamed("liar-honest"), lying("honest", "too-new", "too-old"))
	t.Run("honest", func(t *testing.T) {
		code, stdout, _ := honest.exec(t, honest.running(t, "honest"), "honest", nothing(), "echo", "hello")
		must.Eq(t, 0, code)
		must.Eq(t, "hello\n", stdout)
	})
	t.Run("versions", func(t *testing.T) {
		honest.running(t, "too-new")
		_, state := honest.dead(t, "too-old")
		must.StrContains(t, events(state), `API version "1.0.0"; podman 4.3 or newer is needed`)
	})

	lies := slices.DeleteFunc(liesAbout(pids, victim), func(one toldLie) bool { return one.more != more })
	var told []string
	for _, one := range lies {
		told = append(told, one.name)
	}
	j := run(t, "liar", lying(append(told, "ended")...))

	another := run(t, "routing", only("unnamed"), renamed("routing-meanwhile"))
	runningAs(t, another, "unnamed", teamA)
	for _, one := range lies {
		t.Run(one.name, func(t *testing.T) {
			if one.says == "" {
				alloc := j.running(t, one.name)
				if one.name == "exec-pid" {
					// Nomad does not pass on why.
					_, _, _, err := tryExec(t.Context(), alloc, one.name, nothing(), "true")
					must.Error(t, err)
				}
				return
			}
			alloc, state := j.dead(t, one.name)
			must.True(t, state.Failed)
			must.StrContains(t, events(state), one.says)
			for _, event := range state.Events {
				must.Less(t, 8<<10, len(event.DisplayMessage), must.Sprint("an event that is too long"))
			}
			logs, err := filepath.Glob(filepath.Join(allocDir(alloc.ID), "alloc/logs", one.name+".std*"))
			must.NoError(t, err)
			must.Len(t, 2, logs)
			for _, log := range logs {
				content, err := os.ReadFile(log)
				must.NoError(t, err)
				must.Eq(t, "", string(content), must.Sprint(log))
			}
		})
	}
	t.Run("ended", func(t *testing.T) { j.dead(t, "ended") })
	t.Run("nothing is left", func(t *testing.T) {
		honest.purge(t)
		j.purge(t)
		eventually(t, "the removal of team-d's containers", func() error {
			if left := teamD.containers(t); len(left) > 0 {
				return fmt.Errorf("there are %v", left)
			}
			return nil
		})
	})
	t.Run("lists", func(t *testing.T) {
		// The driver asks for one when Nomad has had the time to take up its tasks.
		eventually(t, "the driver to ask for the liar's containers", func() error {
			for _, request := range recorded(t) {
				if strings.Contains(request.Path, "/containers/json?") {
					return nil
				}
			}
			return errors.New("it has not")
		})
	})
	t.Run("nobody else was harmed", func(t *testing.T) {
		for whose, pid := range pids {
			must.NoError(t, syscall.Kill(pid, 0), must.Sprint(whose))
		}
		must.Eq(t, victim.State.Pid, runningAs(t, bystander, "unnamed", teamA).State.Pid)
		must.Eq(t, driver, labClient.driverProcess(t))
		most := number(t, strings.TrimSuffix(procStatus(t, driver, "VmHWM"), " kB"))
		t.Logf("the driver's memory was %d KiB at the most", most)
		must.Less(t, 128<<10, most)
	})
}

// No credential that root has reaches a host user's podman; those of the job do.
func TestCredentials(t *testing.T) {
	giveRootCredentials(t)
	startLiar(t, victims{})
	configureAgent(t, "liar")
	j := run(t, "pull")
	j.succeeded(t, "without")
	j.succeeded(t, "with")

	var pulls, authenticated int
	for _, request := range recorded(t) {
		sent := fmt.Sprint(request)
		for _, values := range request.Header {
			for _, value := range values {
				decoded, err := base64.URLEncoding.DecodeString(value)
				if err == nil {
					sent += string(decoded)
				}
			}
		}
		must.StrNotContains(t, sent, "of-root")
		must.StrNotContains(t, sent, base64.StdEncoding.EncodeToString([]byte(rootCredentials)))
		if !strings.Contains(request.Path, "/images/pull?") {
			must.StrNotContains(t, sent, "of-the-job")
			continue
		}
		pulls++
		if strings.Contains(sent, "of-the-job") {
			authenticated++
			must.StrContains(t, sent, `{"username":"of-the-job","password":"secret-of-the-job"}`)
		} else {
			must.MapNotContainsKey(t, request.Header, "X-Registry-Auth")
			must.MapNotContainsKey(t, request.Header, "X-Registry-Config")
		}
	}
	must.Eq(t, 2, pulls)
	must.Eq(t, 1, authenticated)
}

// lying makes a group of the job's for each of these lies.
func lying(names ...string) func(*api.Job) {
	return func(j *api.Job) {
		pattern := j.TaskGroups[0]
		j.TaskGroups = nil
		for _, name := range names {
			group, task := *pattern, *pattern.Tasks[0]
			group.Name, group.Tasks, task.Name = &name, []*api.Task{&task}, name
			if task.Config = maps.Clone(task.Config); strings.HasPrefix(name, "too-") {
				task.Config["socket"] = name
			}
			j.TaskGroups = append(j.TaskGroups, &group)
		}
	}
}

// sleeper is a process of the user's that nobody has a reason to end.
func sleeper(t *testing.T, user hostUser) int {
	t.Helper()
	unit := "e2e-sleeper-of-" + user.name
	command(t, "systemd-run", "--quiet", "--uid="+user.name, "--unit="+unit, "sleep", "1d")
	t.Cleanup(func() { command(t, "systemctl", "stop", unit) })
	return number(t, command(t, "systemctl", "show", "--property=MainPID", "--value", unit))
}

// startLiar runs this program as team-d, as the liar, until the test ends.
func startLiar(t *testing.T, v victims) {
	t.Helper()
	manager := fmt.Sprintf("user@%d.service", teamD.uid)
	command(t, "systemctl", "start", manager)
	t.Cleanup(func() { command(t, "systemctl", "stop", manager) })
	teamD.systemctl(t, "start", "podman.socket")
	program, err := os.Executable()
	must.NoError(t, err)
	encoded, err := json.Marshal(v)
	must.NoError(t, err)
	command(t, "systemd-run", "--quiet", "--uid="+teamD.name, "--unit=e2e-liar", "--setenv="+liarEnv+"="+string(encoded), program)
	t.Cleanup(func() {
		command(t, "systemctl", "stop", "e2e-liar")
		must.NoError(t, os.RemoveAll(liarDir))
	})
	eventually(t, "the liar", func() error {
		_, err := os.Stat(filepath.Join(liarDir, "liar.sock")) // its last one
		return err
	})
}

// recorded are the requests that the liar has got.
func recorded(t *testing.T) []recordedRequest {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(liarDir, recordFile))
	must.NoError(t, err)
	var requests []recordedRequest
	for line := range strings.Lines(string(content)) {
		var request recordedRequest
		must.NoError(t, json.Unmarshal([]byte(line), &request))
		requests = append(requests, request)
	}
	return requests
}

// rootCredentials are those that root has for every registry of the lab.
const rootCredentials = "user-of-root:secret-of-root"

// giveRootCredentials puts root's credentials wherever podman and the libraries that it is made of look for them
// (containers-auth.json(5)). The agent is to be restarted.
func giveRootCredentials(t *testing.T) {
	t.Helper()
	auth := fmt.Sprintf(`{"auth": %q}`, base64.StdEncoding.EncodeToString([]byte(rootCredentials)))
	content := fmt.Sprintf(`{"auths": {"127.0.0.1:5000": %s, "docker.io": %[1]s, "https://index.docker.io/v1/": %[1]s}}`, auth)
	const elsewhere = "/etc/e2e-auth.json"
	dropIn := fmt.Sprintf("[Service]\nEnvironment=HOME=/root REGISTRY_AUTH_FILE=%s\n", elsewhere)
	for path, content := range map[string]string{
		"/root/.config/containers/auth.json":           content,
		"/run/containers/0/auth.json":                  content,
		"/root/.docker/config.json":                    content,
		elsewhere:                                      content,
		"/run/systemd/system/nomad.service.d/e2e.conf": dropIn,
	} {
		_, err := os.Stat(path)
		must.True(t, errors.Is(err, os.ErrNotExist), must.Sprint(path))
		must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		t.Cleanup(func() { must.NoError(t, os.Remove(path)) })
	}
	command(t, "systemctl", "daemon-reload")
	t.Cleanup(func() { command(t, "systemctl", "daemon-reload") })
}
