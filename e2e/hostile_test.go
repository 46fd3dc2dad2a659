//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// What a job's author can write down leads root nowhere.
func TestHostileJobs(t *testing.T) {
	j := run(t, "hostile")

	for _, group := range []string{"plain", "logs", "shared", "capable", "privileged"} {
		t.Run(group, func(t *testing.T) {
			alloc, state := j.dead(t, group)
			must.False(t, state.Failed, must.Sprint(events(state)))
			must.Eq(t, "", string(j.log(t, alloc, group, "stderr")))
			must.FileNotExists(t, "/etc/e2e-hostile-"+group)
			// The collector has gone on to another file, which shows that there was something to win.
			rotated := filepath.Join(allocDir(alloc.ID), "alloc/logs", group+".stdout.1")
			info, err := os.Lstat(rotated)
			must.NoError(t, err)
			must.True(t, info.Mode().IsRegular(), must.Sprint(info.Mode()))
			owner, ok := info.Sys().(*syscall.Stat_t)
			must.True(t, ok)
			must.Eq(t, 0, owner.Uid)
		})
	}

	for group, why := range map[string]string{
		"taskdir":  `config option "volumes": .: this is the task's directory`,
		"allocdir": `config option "volumes": local/..: this is the task's directory`,
		"private":  `config option "volumes": private: this is in a directory that Nomad keeps to itself`,
	} {
		t.Run(group, func(t *testing.T) {
			_, state := j.dead(t, group)
			must.True(t, state.Failed)
			must.StrContains(t, events(state), why)
		})
	}
}

// At each start of the agent Nomad opens alloc and alloc/logs to everybody again. A program of the host user's that waits for
// that with a descriptor of theirs gets no file of root's written.
func TestHostileRaces(t *testing.T) { testRaces(t, 3) }

func TestHostileRacesMany(t *testing.T) { testRaces(t, 20) }

func testRaces(t *testing.T, restarts int) {
	const untouched = "untouched"
	must.NoError(t, os.WriteFile(prize, []byte(untouched), 0o600))
	t.Cleanup(func() { must.NoError(t, os.Remove(prize)) })
	config, err := os.ReadFile(pluginConfig)
	must.NoError(t, err)
	restart := func(t *testing.T) {
		restartAgent(t, config)
		info, err := os.Stat(prize)
		must.NoError(t, err)
		must.Eq(t, 0o600, info.Mode())
		owner, ok := info.Sys().(*syscall.Stat_t)
		must.True(t, ok)
		must.Eq(t, 0, owner.Uid)
		text, err := os.ReadFile(prize)
		must.NoError(t, err)
		must.Eq(t, untouched, string(text))
	}
	j := run(t, "racer")

	t.Run("running", func(t *testing.T) {
		startRacer(t, j.running(t, "racer"), "racer")
		for range restarts {
			restart(t)
			j.running(t, "racer")
		}
		showRaced(t)
	})

	t.Run("waiting for the next try", func(t *testing.T) {
		alloc := j.running(t, "waiting")
		startRacer(t, alloc, "waiting")
		labClient.letGo(t, alloc, "waiting")
		j.says(t, "waiting", "Task restarting in")
		restart(t)
		logs := filepath.Join(allocDir(alloc.ID), "alloc/logs")
		eventually(t, "the logs to be root's again", func() error {
			info, err := os.Lstat(logs)
			if err != nil {
				return err
			}
			if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != 0 || info.Mode().Perm() != 0o755 {
				return fmt.Errorf("they are %v", info.Mode())
			}
			return nil
		})
		restart(t)
		showRaced(t)
	})
}

// showRaced makes sure that the racer has seen its directories open: otherwise the test shows nothing.
func showRaced(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(racerDir, "raced"))
	must.NoError(t, err)
	t.Logf("the racer: %s", text)
	var seen raced
	must.NoError(t, json.Unmarshal(text, &seen))
	must.Positive(t, seen.Events)
}

// startRacer runs this program as team-a, as the racer, until the test ends.
func startRacer(t *testing.T, alloc *api.Allocation, task string) {
	t.Helper()
	program, err := os.Executable()
	must.NoError(t, err)
	// By way of the container, whose processes are the user's to look into.
	shared := fmt.Sprintf("/proc/%d/root/alloc", teamA.container(t, alloc, task).State.Pid)
	command(t, "systemd-run", "--quiet", "--uid="+teamA.name, "--unit=e2e-racer", "--setenv="+racerEnv+"="+shared, program)
	t.Cleanup(func() {
		command(t, "systemctl", "stop", "e2e-racer")
		must.NoError(t, os.RemoveAll(racerDir))
	})
	eventually(t, "the racer", func() error {
		_, err := os.Stat(filepath.Join(racerDir, "raced"))
		return err
	})
}

// Tasks of different host users share a group's files, and keep what they have at the top of alloc.
func TestSharedDirectory(t *testing.T) {
	j := run(t, "shared")
	said := j.succeeded(t, "second")
	must.Eq(t, "read: yes\nmake: yes\nappend: yes\nremove: no\nrename: no\nrename a directory: no\n"+
		"write in a directory: yes\nremove in a directory: yes\nremove in data: yes\n", said)
}
