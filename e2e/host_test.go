//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// command runs a program on the host and returns what it prints to its standard output.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	must.NoError(t, err)
	return out
}

// try is command for programs that may fail; the error tells what they said.
func try(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// hostUser is a user of the machine with a podman.
type hostUser struct {
	name string
	uid  int
}

var (
	root  = hostUser{"root", 0}
	teamA = hostUser{"team-a", 2001}
	teamB = hostUser{"team-b", 2002}
	teamC = hostUser{"team-c", 2003}
	teamD = hostUser{"team-d", 2004}
)

// managerRuns tells whether the user's systemd manager runs, without which there is no rootless container.
func (u hostUser) managerRuns() bool {
	state, _ := try("systemctl", "is-active", fmt.Sprintf("user@%d.service", u.uid)) // not active is a failure
	return state == "active"
}

// lingers tells whether the user's manager outlives the user's sessions (loginctl(1)).
func (u hostUser) lingers() bool {
	_, err := os.Stat("/var/lib/systemd/linger/" + u.name)
	return err == nil
}

// systemctl speaks to the user's systemd manager.
func (u hostUser) systemctl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := u.trySystemctl(args...)
	must.NoError(t, err)
	return out
}

// trySystemctl opens no session, as --machine= would: the manager of a user who does not linger ends soon after the last one.
func (u hostUser) trySystemctl(args ...string) (string, error) {
	return u.as("systemctl", append([]string{"--user"}, args...)...)
}

// podman runs podman as the user would.
func (u hostUser) podman(t testing.TB, args ...string) string {
	t.Helper()
	out, err := u.tryPodman(args...)
	must.NoError(t, err)
	return out
}

func (u hostUser) tryPodman(args ...string) (string, error) {
	if u == root {
		return try("podman", args...)
	}
	return u.as("podman", args...)
}

// as runs a program as the user, with what the user's manager gives to programs.
func (u hostUser) as(program string, args ...string) (string, error) {
	runtimeDir := fmt.Sprintf("/run/user/%d", u.uid)
	as := []string{"-u", u.name, "--", "env", "-i", "HOME=/home/" + u.name, "PATH=" + os.Getenv("PATH"),
		"XDG_RUNTIME_DIR=" + runtimeDir, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + runtimeDir + "/bus", program}
	return try("runuser", append(as, args...)...)
}

// containers are the names of all of the user's containers.
func (u hostUser) containers(t *testing.T) []string {
	t.Helper()
	if u != root && !u.managerRuns() {
		return nil
	}
	return strings.Fields(u.podman(t, "ps", "--all", "--format", "{{.Names}}"))
}

// subordinateIDs are the first and the last of the user's subordinate UIDs (subuid(5)).
func (u hostUser) subordinateIDs(t *testing.T) (first, last int) {
	t.Helper()
	content, err := os.ReadFile("/etc/subuid")
	must.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) == 3 && fields[0] == u.name {
			return number(t, fields[1]), number(t, fields[1]) + number(t, fields[2]) - 1
		}
	}
	t.Fatalf("%s has no subordinate UIDs", u.name)
	return 0, 0
}

// container is what `podman inspect` says about a container.
type container struct {
	ID     string `json:"Id"`
	Name   string
	Config struct {
		Labels map[string]string
	}
	State struct {
		Pid        int
		ConmonPid  int
		CgroupPath string
	}
	ExecIDs    []string
	HostConfig struct {
		NetworkMode string
		Privileged  bool
		Memory      int64
	}
	NetworkSettings struct {
		Ports map[string][]struct{ HostIP, HostPort string }
	}
}

// container finds the container of a task.
func (u hostUser) container(t *testing.T, alloc *api.Allocation, task string) container {
	t.Helper()
	var found []container
	must.NoError(t, json.Unmarshal([]byte(u.podman(t, "container", "inspect", containerName(alloc, task))), &found))
	must.Len(t, 1, found)
	return found[0]
}

func containerName(alloc *api.Allocation, task string) string { return task + "-" + alloc.ID }

// uids are the real UIDs, as the host sees them, of the container's processes.
func (c container) uids(t *testing.T) []int {
	t.Helper()
	var uids []int
	for _, pid := range c.pids(t) {
		if uid, runs := uidOf(t, pid); runs {
			uids = append(uids, uid)
		}
	}
	must.SliceNotEmpty(t, uids)
	return uids
}

// uidOf is a process' real UID, unless it has ended meanwhile.
func uidOf(t testing.TB, pid int) (uid int, runs bool) {
	t.Helper()
	fields, err := tryProcStatus(pid, "Uid")
	if processGone(err) {
		return 0, false
	}
	must.NoError(t, err)
	return number(t, strings.Fields(fields)[0]), true
}

// processGone tells whether a file of /proc/PID could not be read because its process has ended.
func processGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// pids are the container's processes.
func (c container) pids(t *testing.T) []int {
	t.Helper()
	var pids []int
	must.NoError(t, filepath.WalkDir(c.cgroup(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return err
		}
		content, err := os.ReadFile(path)
		for _, pid := range strings.Fields(string(content)) {
			pids = append(pids, number(t, pid))
		}
		return err
	}))
	return pids
}

// cgroup is the directory of the container's cgroup.
func (c container) cgroup() string { return filepath.Join("/sys/fs/cgroup", c.State.CgroupPath) }

// cgroupFile is the content of one of the files there.
func (c container) cgroupFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.cgroup(), name))
	must.NoError(t, err)
	return strings.TrimSpace(string(content))
}

// cgroupValue is the value of a key in a file of keys and values, such as cpu.stat.
func (c container) cgroupValue(t *testing.T, name, key string) int {
	t.Helper()
	for line := range strings.Lines(c.cgroupFile(t, name)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == key {
			return number(t, fields[1])
		}
	}
	t.Fatalf("%s of container %s has no %s", name, c.Name, key)
	return 0
}

// procStatus is a field of a process' /proc/PID/status.
func procStatus(t testing.TB, pid int, field string) string {
	t.Helper()
	value, err := tryProcStatus(pid, field)
	must.NoError(t, err)
	return value
}

func tryProcStatus(pid int, field string) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// namespace identifies a namespace of a process ("net", "user").
func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	must.NoError(t, err)
	return id
}

// stagingMounts are the mounts that show a task's directories to its host user while its container starts.
func stagingMounts(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("/proc/1/mountinfo")
	must.NoError(t, err)
	var mounts []string
	for line := range strings.Lines(string(content)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, "/run/nomad-podman/stage/") {
			mounts = append(mounts, target)
		}
	}
	return mounts
}

// lookupUID is the UID of any user of the machine.
func lookupUID(t *testing.T, name string) int {
	t.Helper()
	found, err := user.Lookup(name)
	must.NoError(t, err)
	return number(t, found.Uid)
}

func number(t testing.TB, text string) int {
	t.Helper()
	value, err := strconv.Atoi(text)
	must.NoError(t, err)
	return value
}

func regex(expression string) *regexp.Regexp { return regexp.MustCompile(expression) }
