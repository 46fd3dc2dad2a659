//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// stageDir is where team-a's tasks are staged.
const stageDir = "/run/nomad-podman/stage/2001"

func TestFiles(t *testing.T) {
	variable := &api.Variable{Path: "nomad/jobs/files", Items: api.VariableItems{"text": "first text"}}
	variable, _, err := nomad.Variables().Create(variable, nil)
	must.NoError(t, err)

	strangers := []*syscall.Credential{as(teamB.uid, teamB.uid), as(teamB.uid, teamA.uid), as(lookupUID(t, "nobody"), teamB.uid, teamA.uid)}
	spies := spy(t, strangers...)
	j := run(t, "files")
	alloc := j.running(t, "files")
	seen := spies.stop()

	t.Run("the task reads and writes where it should", func(t *testing.T) {
		said := j.prints(t, "files", "later: first text")
		for _, want := range []string{
			"write local: yes", "write alloc: yes", "write secrets: no", "write logs: no", "remove logs: no",
			"list logs: yes", "nosuid and nodev: 3", "once: root wrote this",
		} {
			must.StrContains(t, said, want+"\n")
		}
		for _, file := range []string{"files/local/file", "alloc/data/file"} {
			content, err := os.ReadFile(filepath.Join(allocDir(alloc.ID), file))
			must.NoError(t, err)
			must.Eq(t, "written\n", string(content))
		}
	})

	t.Run("root's group in the container reads what Nomad lets root's group read", func(t *testing.T) {
		must.Eq(t, "for root's group", j.succeeded(t, "group"))
	})

	t.Run("a secret that root renders later is read, too", func(t *testing.T) {
		variable.Items["text"] = "second text"
		_, _, err := nomad.Variables().Update(variable, nil)
		must.NoError(t, err)
		j.prints(t, "files", "later: second text")
		for _, name := range []string{"once", "later"} {
			info, err := os.Stat(filepath.Join(allocDir(alloc.ID), "files", "secrets", name))
			must.NoError(t, err)
			must.Eq(t, 0o600, info.Mode())
			owner, ok := info.Sys().(*syscall.Stat_t)
			must.True(t, ok)
			must.Eq(t, 0, owner.Uid)
		}
	})

	t.Run("nobody else looks in while the container starts", func(t *testing.T) {
		must.SliceContainsFunc(t, seen.mounts, "secrets", func(mount, name string) bool { return filepath.Base(mount) == name },
			must.Sprint("the spies saw no staging mount of the secrets, so that this test shows nothing"))
		must.Eq(t, nil, seen.reached)
	})

	t.Run("what is shown to the host user lends no rights", func(t *testing.T) { must.Eq(t, nil, seen.lending) })

	t.Run("nor afterwards", func(t *testing.T) {
		must.SliceEmpty(t, stagingMounts(t))
		stage, err := os.ReadDir(stageDir)
		must.NoError(t, err)
		must.SliceEmpty(t, stage)
		for _, who := range strangers {
			must.Eq(t, nil, reach(who, stageDir))
		}
		for _, who := range append(strangers, as(teamA.uid, teamA.uid)) {
			must.Eq(t, nil, reach(who, allocDir(alloc.ID), filepath.Join(allocDir(alloc.ID), "files", "secrets")))
		}
	})
}

// as is a user with a primary group and others.
func as(uid, gid int, groups ...int) *syscall.Credential {
	who := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, group := range groups {
		who.Groups = append(who.Groups, uint32(group))
	}
	return who
}

// spies are users who try to look into staging mounts while they exist.
type spies struct {
	who    []*syscall.Credential
	end    *os.File
	done   sync.WaitGroup // the watch
	visits sync.WaitGroup // tries to look in, which take longer than some of the mounts are there
	mu     sync.Mutex
	seen   sight
	err    error
	t      *testing.T
}

// sight is which staging mounts there were, what the spies could open of them, and which ones programs can get rights from.
type sight struct{ mounts, reached, lending []string }

// spy watches the mounts of the host until stop. The kernel tells when they change (proc_pid_mountinfo(5)).
func spy(t *testing.T, who ...*syscall.Credential) *spies {
	t.Helper()
	reader, writer, err := os.Pipe()
	must.NoError(t, err)
	table, err := os.Open("/proc/1/mountinfo")
	must.NoError(t, err)
	s := &spies{who: who, end: writer, t: t}
	s.done.Go(func() {
		defer table.Close()
		defer reader.Close()
		for s.err == nil {
			s.look()
			fds := []unix.PollFd{{Fd: int32(table.Fd()), Events: unix.POLLPRI}, {Fd: int32(reader.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				s.err = err
			}
			if fds[1].Revents != 0 {
				return
			}
		}
	})
	t.Cleanup(func() { s.stop() })
	return s
}

// look tries every staging mount that is new.
func (s *spies) look() {
	content, err := os.ReadFile("/proc/1/mountinfo")
	if err != nil {
		s.err = err
		return
	}
	var dirs []string
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		target, options := fields[4], strings.Split(fields[5], ",")
		if !strings.HasPrefix(target, "/run/nomad-podman/stage/") || slices.Contains(s.seen.mounts, target) {
			continue
		}
		s.seen.mounts = append(s.seen.mounts, target)
		if !slices.Contains(options, "nosuid") || !slices.Contains(options, "nodev") {
			s.seen.lending = append(s.seen.lending, strings.TrimSpace(line))
		}
		dirs = append(dirs, target, filepath.Dir(target), filepath.Dir(filepath.Dir(target)))
	}
	if len(dirs) == 0 {
		return
	}
	for _, who := range s.who {
		s.visits.Go(func() {
			reached := reach(who, dirs...)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.seen.reached = append(s.seen.reached, reached...)
		})
	}
}

// stop ends the watch and tells what was seen.
func (s *spies) stop() sight {
	s.t.Helper()
	if s.end != nil {
		must.NoError(s.t, s.end.Close())
		s.end = nil
		s.done.Wait()
		s.visits.Wait()
		must.NoError(s.t, s.err)
	}
	return s.seen
}

// reach returns which of the directories a user can list. All are tried at once: staging mounts are there for a moment only.
func reach(who *syscall.Credential, dirs ...string) []string {
	cmd := exec.Command("ls", append([]string{"-la"}, dirs...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var reached []string
	for _, dir := range dirs {
		if err == nil || !strings.Contains(stderr.String(), "'"+dir+"': Permission denied") {
			reached = append(reached, fmt.Sprintf("%v: ls %s: %v: %s", *who, dir, err, strings.TrimSpace(stderr.String())))
		}
	}
	return reached
}
