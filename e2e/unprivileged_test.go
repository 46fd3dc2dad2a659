//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// unprivileged is an agent that team-d runs without root, as examples/rootless-agent says, beside the lab's own.
var unprivileged = client{user: teamD, tasks: teamD, dataDir: ownFile(".local/share/nomad/data"), class: "unprivileged"}

// ownFile is the path of a file in the home of the agent's user.
func ownFile(name string) string { return filepath.Join("/home", teamD.name, name) }

// What a root agent does for rootless tasks, an agent without root does, too; what it cannot do it refuses.
func TestUnprivileged(t *testing.T) {
	installUnprivileged(t)

	t.Run("fingerprint", func(t *testing.T) {
		node, err := unprivileged.readyNode()
		must.NoError(t, err)
		must.Eq(t, "All Podman sockets are responding.", node.Drivers["podman"].HealthDescription)
		for attribute, want := range map[string]string{
			"driver.podman.hostUser": "team-d",
			"driver.podman.rootless": "true",
			"driver.podman.socket":   "/run/user/2004/podman/podman.sock",
		} {
			must.Eq(t, want, node.Attributes[attribute])
		}
	})

	t.Run("preflight", func(t *testing.T) {
		as := []string{"runuser", "-u", teamD.name, "--", pluginFile, "preflight", "-json", "-config", ownFile(".config/nomad")}
		report, exit := preflightBy(t, as...)
		must.Eq(t, 0, exit, must.Sprint(report.bad()))
		must.Eq(t, "ok", report.only(t, "nomad-cgroups", "host").Status)

		slice, err := filepath.Abs("testdata/agent/nomad-slice.hcl")
		must.NoError(t, err)
		report, _ = preflightBy(t, append(as, "-config", slice)...)
		waits := report.only(t, "nomad-cgroups", "host") // a warning, when systemd has switched controllers off since
		must.SliceContains(t, []string{"fail", "warn"}, waits.Status)
		must.StrContains(t, waits.Why, "no task ever starts")
	})

	t.Run("redis", func(t *testing.T) {
		j := run(t, "redis", unprivileged.place)
		redis := answersPing(t, j, teamD)
		must.StrHasPrefix(t, "/user.slice/user-2004.slice/user@2004.service/", redis.State.CgroupPath)
		j.prints(t, "redis", "Ready to accept connections")
		eventually(t, "its stats", func() error { return usesWhatCgroupSays(t, j.running(t, "redis"), redis) })
		for _, pid := range []int{unprivileged.driverProcess(t), logProcessOf(t, teamD)} {
			must.Eq(t, "2004\t2004\t2004\t2004", procStatus(t, pid, "Uid"))
			must.Eq(t, "0000000000000000", procStatus(t, pid, "CapEff"))
		}
	})
	// So that also the first processes of containers are not the agent user's: they have a subordinate UID.
	asApp := func(j *api.Job) {
		for _, group := range j.TaskGroups {
			for _, task := range group.Tasks {
				task.User = "app"
			}
		}
	}
	t.Run("exits", func(t *testing.T) { testExits(t, unprivileged, asApp) })
	t.Run("exits seen late", testExitsSeenLate)
	t.Run("stop", func(t *testing.T) { testStop(t, unprivileged, asApp) })
	t.Run("logs", func(t *testing.T) { testLogs(t, unprivileged) })
	t.Run("logs of a killed driver", func(t *testing.T) { testLogsOfKilledDriver(t, unprivileged) })
	t.Run("volumes", func(t *testing.T) { testVolumes(t, unprivileged) })
	t.Run("files", testOwnFiles)
	t.Run("signals", testOwnSignals)
	t.Run("a restart of the agent", testUnprivilegedRestart)
	t.Run("refusals", testUnprivilegedRefusals)

	t.Run("nothing is left", func(t *testing.T) {
		must.SliceEmpty(t, teamD.containers(t))
		must.SliceEmpty(t, entries(t, filepath.Join(unprivileged.dataDir, "alloc")))
		must.Eq(t, []string{"lock", "nomad-driver-podman"}, entries(t, ownFile(".local/state/nomad-driver-podman/logs")))
		must.Eq(t, "0", teamD.systemctl(t, "show", "--property=NFileDescriptorStore", "--value", "nomad-podman-logs.service"))
		held := fmt.Sprintf("/proc/%d/fd", unprivileged.driverProcess(t))
		for _, name := range entries(t, held) {
			target, err := os.Readlink(filepath.Join(held, name))
			if !errors.Is(err, os.ErrNotExist) { // closed meanwhile
				must.NoError(t, err)
			}
			must.StrNotContains(t, target, "pidfd")
			must.StrNotContains(t, target, "libpod")
		}
		// Lingering was known to be on already, and nothing was made where only root can.
		must.StrNotContains(t, teamD.journal(t, "nomad.service"), "last session")
		must.SliceEmpty(t, root.containers(t))
		_, err := os.Stat("/run/nomad-podman")
		must.ErrorIs(t, err, os.ErrNotExist)
	})
}

// installUnprivileged does what README says and waits for the agent. When the test ends, team-d is as before.
func installUnprivileged(t *testing.T) {
	t.Helper()
	must.False(t, teamD.managerRuns())
	t.Cleanup(func() {
		command(t, "loginctl", "disable-linger", teamD.name)
		command(t, "systemctl", "stop", fmt.Sprintf("user@%d.service", teamD.uid))
		for _, name := range []string{".config/nomad", ".config/systemd", ".local/share/nomad", ".local/state/nomad-driver-podman"} {
			must.NoError(t, os.RemoveAll(ownFile(name)))
		}
	})
	command(t, "loginctl", "enable-linger", teamD.name)
	installOwn(t, "/opt/nomad/plugins/nomad-driver-podman", ".local/share/nomad/plugins", "0755")
	installOwn(t, "testdata/rootless-agent/nomad.hcl", ".config/nomad", "0644")
	installOwn(t, "testdata/agent/unprivileged.hcl", ".config/nomad", "0644")
	installOwn(t, "testdata/rootless-agent/nomad.service", ".config/systemd/user", "0644")
	eventually(t, "the manager of team-d", func() error {
		if !teamD.managerRuns() {
			return errors.New("it does not run yet")
		}
		return nil
	})

	started := time.Now()
	teamD.systemctl(t, "daemon-reload")
	// Where root's agent has its cgroups and these controllers are on, Nomad waits for cgroups that it may not make.
	must.DirExists(t, "/sys/fs/cgroup/nomad.slice")
	must.NoError(t, os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpuset +cpu +io +memory +pids"), 0))
	teamD.systemctl(t, "enable", "--now", "nomad.service")
	t.Cleanup(func() {
		teamD.systemctl(t, "disable", "--now", "nomad.service")
		node, err := unprivileged.readyNode()
		must.NoError(t, err)
		_, _, err = nomad.Nodes().Purge(node.ID, nil)
		must.NoError(t, err)
	})
	awaitUnprivileged(t, started)
}

// installOwn copies a file into a directory of the home of team-d, as team-d.
func installOwn(t *testing.T, file, dir, mode string) {
	t.Helper()
	source, err := filepath.Abs(file)
	must.NoError(t, err)
	command(t, "runuser", "-u", teamD.name, "--", "install", "-D", "--mode="+mode, "--target-directory="+ownFile(dir), source)
}

// awaitUnprivileged waits for the agent that was started after a time.
func awaitUnprivileged(t *testing.T, after time.Time) *api.Node {
	t.Helper()
	var node *api.Node
	eventually(t, "the agent of team-d", func() (err error) {
		if node, err = unprivileged.readyNode(); err == nil && node.Drivers["podman"].UpdateTime.Before(after) {
			err = errors.New("it is the one before")
		}
		return err
	})
	return node
}

// logProcessOf is the log process of an agent that runs as this user.
func logProcessOf(t *testing.T, user hostUser) int {
	t.Helper()
	return number(t, user.systemctl(t, "show", "--property=MainPID", "--value", "nomad-podman-logs.service"))
}

// entries are the names in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	must.NoError(t, err)
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// usesWhatCgroupSays compares the statistics of an idle redis.
func usesWhatCgroupSays(t *testing.T, alloc *api.Allocation, redis container) error {
	t.Helper()
	usage, err := nomad.Allocations().Stats(alloc, nil)
	if err != nil {
		return err
	}
	task := usage.Tasks["redis"]
	if task == nil || task.ResourceUsage == nil {
		return errors.New("Nomad has none yet")
	}
	memory, cpu := task.ResourceUsage.MemoryStats, task.ResourceUsage.CpuStats
	must.SliceContainsSubset(t, memory.Measured, []string{"RSS", "Cache", "Usage", "Max Usage"})
	must.SliceContainsSubset(t, cpu.Measured, []string{"System Mode", "User Mode", "Percent"})
	if want := uint64(redis.cgroupValue(t, "memory.stat", "anon")); memory.RSS != want {
		return fmt.Errorf("RSS is %d, in the cgroup's file %d", memory.RSS, want)
	}
	return nil
}

// Driver and conmon get to know of two ends when the cgroups are gone, and with them the counts of OOM kills. Without root,
// who has the kernel's log, the driver still tells which of the two was one.
func testExitsSeenLate(t *testing.T) {
	oomKilled := map[string]string{"oom": "true", "killed": "false"}
	j := run(t, "exits", unprivileged.place, only(slices.Collect(maps.Keys(oomKilled))...))
	containers := map[string]container{}
	late := []int{unprivileged.driverProcess(t)}
	for task := range oomKilled {
		containers[task] = teamD.container(t, j.running(t, task), task)
		late = append(late, containers[task].State.ConmonPid)
	}
	wake := func() {
		for _, pid := range late {
			_ = syscall.Kill(pid, syscall.SIGCONT) // may have ended
		}
	}
	t.Cleanup(wake)
	for _, pid := range late {
		must.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	unprivileged.letGo(t, j.running(t, "oom"), "oom")
	must.NoError(t, syscall.Kill(containers["killed"].State.Pid, syscall.SIGKILL))
	for task, ended := range containers {
		eventually(t, "the removal of the cgroup of "+task, func() error {
			if _, err := os.Stat(ended.cgroup()); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s is still there: %v", ended.cgroup(), err)
			}
			return nil
		})
	}
	wake()
	for task, want := range oomKilled {
		_, state := j.dead(t, task)
		exit := terminated(t, state)
		must.Eq(t, "137", exit.Details["exit_code"], must.Sprint(exit.DisplayMessage))
		must.Eq(t, want, exit.Details["oom_killed"], must.Sprint(task, ": ", exit.DisplayMessage))
	}
}

func testOwnFiles(t *testing.T) {
	variable := &api.Variable{Path: "nomad/jobs/files", Items: api.VariableItems{"text": "first text"}}
	variable, _, err := nomad.Variables().Create(variable, nil)
	must.NoError(t, err)
	j := run(t, "files", unprivileged.place)
	said := j.prints(t, "files", "later: first text")
	for _, want := range []string{"write local: yes", "write alloc: yes", "write logs: no", "remove logs: no", "list logs: yes", "once: root wrote this"} {
		must.StrContains(t, said, want+"\n")
	}
	variable.Items["text"] = "second text"
	_, _, err = nomad.Variables().Update(variable, nil)
	must.NoError(t, err)
	j.prints(t, "files", "later: second text")

	alloc := j.running(t, "files")
	secret, err := os.Stat(filepath.Join(unprivileged.allocDir(alloc.ID), "files/secrets/later"))
	must.NoError(t, err)
	must.Eq(t, 0o600, secret.Mode())
	closed, err := os.Stat(unprivileged.dataDir)
	must.NoError(t, err)
	must.Eq(t, 0o700|os.ModeDir, closed.Mode())
	must.SliceEmpty(t, stagingMounts(t))
}

// Where podman does not answer the driver signals the process itself, also one with a subordinate UID: the agent's user
// owns its user namespace. And systemd restarts the log process, as root's does.
func testOwnSignals(t *testing.T) {
	j := run(t, "unprivileged", unprivileged.place)
	j.prints(t, "signals", "ready")
	alloc := j.running(t, "signals")
	first, last := teamD.subordinateIDs(t)
	for _, uid := range teamD.container(t, alloc, "signals").uids(t) {
		must.Between(t, first, uid, last)
	}
	teamD.systemctl(t, "stop", "podman.socket", "podman.service")
	t.Cleanup(func() { teamD.systemctl(t, "start", "podman.socket") }) // before the job is purged
	must.NoError(t, nomad.Allocations().Signal(alloc, nil, "signals", "SIGUSR1"))
	j.prints(t, "signals", "got SIGUSR1")

	must.NoError(t, syscall.Kill(logProcessOf(t, teamD), syscall.SIGKILL))
	must.NoError(t, nomad.Allocations().Signal(alloc, nil, "signals", "SIGUSR1"))
	j.prints(t, "signals", "got SIGUSR1\ngot SIGUSR1")
}

// One task ends while there is no agent, another one goes on. The new agent has sockets that it cannot use.
func testUnprivilegedRestart(t *testing.T) {
	j := run(t, "exits", unprivileged.place, only("killed", "signalled"))
	killed := teamD.container(t, j.running(t, "killed"), "killed")
	alloc := j.running(t, "signalled")
	before := teamD.container(t, alloc, "signalled")

	teamD.systemctl(t, "stop", "nomad.service")
	must.NoError(t, syscall.Kill(killed.State.Pid, syscall.SIGKILL))
	eventually(t, "the end of the killed task", func() error {
		if err := syscall.Kill(killed.State.ConmonPid, 0); err != syscall.ESRCH {
			return fmt.Errorf("its monitor is there: %v", err)
		}
		return nil
	})
	started := time.Now()
	installOwn(t, "testdata/agent/unprivileged-sockets.hcl", ".config/nomad", "0644")
	teamD.systemctl(t, "start", "nomad.service")
	awaitUnprivileged(t, started)

	_, state := j.dead(t, "killed")
	exit := terminated(t, state)
	must.Eq(t, "137", exit.Details["exit_code"], must.Sprint(exit.DisplayMessage))
	must.Eq(t, "9", exit.Details["signal"], must.Sprint(exit.DisplayMessage))
	must.Eq(t, before.State.Pid, teamD.container(t, j.running(t, "signalled"), "signalled").State.Pid)
	must.NoError(t, nomad.Allocations().Signal(alloc, nil, "signalled", "SIGUSR1"))
	_, state = j.dead(t, "signalled")
	must.Eq(t, "138", terminated(t, state).Details["exit_code"])
	must.Eq(t, 0, state.Restarts)
}

func testUnprivilegedRefusals(t *testing.T) {
	node, err := unprivileged.readyNode()
	must.NoError(t, err)
	must.Eq(t, "Cannot fingerprint certain podman sockets: other, rootful", node.Drivers["podman"].HealthDescription)
	must.StrContains(t, teamD.journal(t, "nomad.service"), "a podman socket cannot be used: driver=podman")

	t.Run("the podman of others", func(t *testing.T) {
		j := run(t, "routing", unprivileged.place, optionOf("unnamed", "socket", "other"), func(j *api.Job) {
			again := 1
			for _, group := range j.TaskGroups {
				group.RestartPolicy.Attempts = &again
				group.Tasks[0].RestartPolicy = group.RestartPolicy
			}
		})
		for task, owner := range map[string]string{"unnamed": "team-a", "named": "root", "user": "team-b"} {
			_, state := j.dead(t, task)
			must.StrContains(t, events(state), fmt.Sprintf("the agent runs as UID 2004, which can use no other user's podman (%s's)", owner))
			must.StrContains(t, events(state), "run the agent as root, or")
			must.StrContains(t, events(state), "Error was unrecoverable")
		}
		for _, user := range []hostUser{teamA, teamB} {
			must.False(t, user.managerRuns())
		}
	})
	t.Run("a host volume of root", func(t *testing.T) {
		j := run(t, "routing", unprivileged.place, only("unnamed"), func(j *api.Job) {
			group := j.TaskGroups[0]
			group.Volumes = map[string]*api.VolumeRequest{"closed": {Name: "closed", Type: "host", Source: "closed"}}
			volume, destination := "closed", "/closed"
			group.Tasks[0].VolumeMounts = []*api.VolumeMount{{Volume: &volume, Destination: &destination}}
		})
		_, state := j.dead(t, "unnamed")
		must.StrContains(t, events(state), "mount for /closed: open /root: permission denied; give host user team-d, who runs the agent, access to it")
	})
	t.Run("a group network", func(t *testing.T) {
		j := run(t, "redis", unprivileged.place, once, func(j *api.Job) { j.TaskGroups[0].Networks[0].Mode = "bridge" })
		_, state := j.dead(t, "redis")
		must.RegexMatch(t, regex("failed to create network for alloc: .*/netns.*: permission denied"), events(state)) // Nomad's word
	})
}

// journal is what a service of the user's manager has said.
func (u hostUser) journal(t *testing.T, unit string) string {
	t.Helper()
	command(t, "journalctl", "--sync")
	return command(t, "journalctl", "--quiet", "--output=cat", "_SYSTEMD_USER_UNIT="+unit, fmt.Sprintf("_UID=%d", u.uid))
}
