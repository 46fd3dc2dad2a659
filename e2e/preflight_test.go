//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// found is a finding as `preflight -json` prints it.
type found struct {
	ID, Subject, Status, Seen, Why string
	Remedy                         *struct {
		Commands []string
		Advice   string
		Safe     bool
	}
}

// findings is what it prints.
type findings struct {
	Ready    bool
	Findings []found
}

// of are the findings with this ID and subject.
func (f findings) of(id, subject string) []found {
	return slices.DeleteFunc(slices.Clone(f.Findings), func(one found) bool { return one.ID != id || one.Subject != subject })
}

// only is the one finding with this ID and subject.
func (f findings) only(t *testing.T, id, subject string) found {
	t.Helper()
	all := f.of(id, subject)
	must.Len(t, 1, all, must.Sprintf("%s of %s in %+v", id, subject, f))
	return all[0]
}

// bad are those that are not as they should be, for messages.
func (f findings) bad() string {
	var text strings.Builder
	for _, one := range f.Findings {
		if one.Status == "fail" || one.Status == "warn" {
			fmt.Fprintf(&text, "%s: %s of %s: %s: %s\n", one.Status, one.ID, one.Subject, one.Seen, one.Why)
		}
	}
	return text.String()
}

// preflight runs the subcommand with -json, and returns what it has found and its exit status.
func preflight(t *testing.T, args ...string) (findings, int) {
	t.Helper()
	return preflightBy(t, append([]string{preflightProgram, "preflight", "-json"}, args...)...)
}

// preflightBy is preflight with another command line.
func preflightBy(t *testing.T, words ...string) (findings, int) {
	t.Helper()
	out, said, exit := execute(t, words...)
	var report findings
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	must.NoError(t, decoder.Decode(&report), must.Sprintf("%q; %s", out, said))
	must.Eq(t, exit != 2, report.Ready, must.Sprint(said))
	return report, exit
}

// execute runs a program, and returns what it has written to its streams and its exit status.
func execute(t *testing.T, words ...string) (stdout, stderr string, exit int) {
	t.Helper()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "/"
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); !errors.As(err, new(*exec.ExitError)) {
		must.NoError(t, err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// preflightProgram is the plugin's program, at a place from which no test takes it away.
const preflightProgram = "/usr/local/bin/nomad-driver-podman"

func installPreflight(t *testing.T) {
	t.Helper()
	must.NoError(t, os.Link(pluginFile, preflightProgram))
	t.Cleanup(func() { must.NoError(t, os.Remove(preflightProgram)) })
}

// configured are the arguments for an agent's configuration like the lab's, but for the content of the driver's block.
func configured(t *testing.T, block string) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "preflight") // t.TempDir is closed to other users
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	must.NoError(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "podman.hcl")
	must.NoError(t, os.WriteFile(file, []byte("plugin \"nomad-driver-podman\" {\n  config {\n"+block+"\n  }\n}\n"), 0o644))
	return []string{"-config", "/etc/nomad.d/nomad.hcl", "-config", file}
}

// socketOf is a socket block of a host user.
func socketOf(name, user string) string {
	return fmt.Sprintf("socket {\n name = %q\n host_user = %q\n}\n", name, user)
}

// guest makes a host user who has never run anything, and is removed with all of it when the test ends.
func guest(t *testing.T, name string) hostUser {
	t.Helper()
	// A UID of their own: logind may still be busy with forgetting the user before, and ends what it takes for theirs.
	user := hostUser{name, 3000 + int(guests.Add(1))}
	command(t, "useradd", "--create-home", "--uid", strconv.Itoa(user.uid), name)
	t.Cleanup(func() { user.remove(t) })
	return user
}

// guests is how many there have been.
var guests atomic.Int32

func (u hostUser) home(name ...string) string {
	return filepath.Join(append([]string{"/home", u.name}, name...)...)
}

func (u hostUser) remove(t *testing.T) {
	t.Helper()
	_, _ = try("loginctl", "disable-linger", u.name) // where it was not on, or nobody is logged in
	_, _ = try("systemctl", "stop", fmt.Sprintf("user@%d.service", u.uid), fmt.Sprintf("user-%d.slice", u.uid))
	must.False(t, u.managerRuns())
	command(t, "userdel", "--remove", u.name)
	// What remedies and the driver have noted of the UID, which another user may get.
	must.NoError(t, os.RemoveAll(fmt.Sprintf("/run/systemd/system.control/user@%d.service.d", u.uid)))
	must.NoError(t, os.RemoveAll(fmt.Sprintf("%s/started/%d.json", stateDir, u.uid)))
}

// startManager has systemd run the user's manager, until the user is removed. logind ends a manager that comes while it is
// still busy with the end of the one before.
func (u hostUser) startManager(t *testing.T) {
	t.Helper()
	eventually(t, "logind to have forgotten "+u.name, func() error {
		_, err := os.Stat(fmt.Sprintf("/run/systemd/users/%d", u.uid))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, errors.New("it knows them"))
	})
	command(t, "systemctl", "start", fmt.Sprintf("user@%d.service", u.uid))
}

// has puts a file into the user's home, as the user.
func (u hostUser) has(t *testing.T, name, text string) {
	t.Helper()
	file := u.home(name)
	must.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	command(t, "chown", "--recursive", u.name+":", u.home(strings.Split(name, "/")[0]))
}

// mending is how a trouble ends.
type mending int

const (
	byFix      mending = iota // preflight -fix does it
	byCommands                // the printed commands do it
	// byTest: there is only advice, or a package is to be installed, and the machine has no network.
	byTest
	// byBoth: the commands do it, and what they make needs -fix.
	byBoth
	notNeeded // all is well
)

// trouble is one way in which a host is not ready.
type trouble struct {
	what string
	// own: it is a user's, and does not show with one who serves all others.
	own bool
	// happen makes it so and returns what makes it undone, also when it is mended already.
	happen func(t *testing.T, user hostUser) (undo func())
	block  string // more of the driver's block

	id     string
	host   bool   // the subject is the host, not the user
	of     string // the subject, when it is neither
	status string
	seen   string
	remedy string // what a command or the advice has
	mended mending
}

// flags are those with which the exit status tells of it.
func (tc trouble) flags() []string {
	if tc.status == "warn" {
		return []string{"-strict"}
	}
	return nil
}

// What is wrong with a host is found, with a remedy that mends it.
func TestPreflight(t *testing.T) {
	installPreflight(t)
	all := guest(t, "team-all")
	t.Run("nothing", func(t *testing.T) {
		report, exit := preflight(t, configured(t, quiet+socketOf("default", all.name))...)
		must.Eq(t, 0, exit, must.Sprint(report.bad()))
	})
	for _, tc := range troubles {
		t.Run(tc.what, func(t *testing.T) {
			t.Cleanup(func() { forgetFixes(t) })
			user, block := all, quiet
			if tc.own {
				user, block = guest(t, "team-own"), ""
			}
			args := configured(t, block+tc.block+socketOf("default", user.name))
			undo := sync.OnceFunc(tc.happen(t, user))
			t.Cleanup(undo)

			subject := tc.of
			if tc.host {
				subject = "host"
			} else if subject == "" {
				subject = user.name
			}
			report, exit := preflight(t, slices.Concat(args, tc.flags())...)
			finding := report.only(t, tc.id, subject)
			must.Eq(t, tc.status, finding.Status, must.Sprint(finding))
			must.StrContains(t, finding.Seen, tc.seen)
			must.Eq(t, map[string]int{"ok": 0, "warn": 1, "fail": 2}[tc.status], exit, must.Sprint(report.bad()))
			if tc.mended == notNeeded {
				return
			}
			must.NotEq(t, "", finding.Why)
			must.NotNil(t, finding.Remedy)
			must.StrContains(t, strings.Join(append(finding.Remedy.Commands, finding.Remedy.Advice), "\n"), tc.remedy)
			must.Eq(t, tc.mended == byFix, finding.Remedy.Safe)

			switch tc.mended {
			case byFix:
				args = append(args, "-fix", "-yes")
			case byBoth:
				args = append(args, "-fix", "-yes")
				fallthrough
			case byCommands:
				must.SliceNotEmpty(t, finding.Remedy.Commands)
				for _, remedy := range finding.Remedy.Commands {
					command(t, "sh", "-c", remedy)
				}
			case byTest:
				undo()
			}
			report, exit = preflight(t, args...)
			must.Eq(t, 0, exit, must.Sprint(report.bad()))
			for _, finding := range report.of(tc.id, subject) {
				must.Eq(t, "ok", finding.Status, must.Sprint(finding))
			}
		})
	}
}

// quiet is for the user of all troubles of the host's, for whom nothing is to be mended.
const quiet = "rootless {\n linger = false\n}\n"

// forgetFixes takes back what remedies of the host's own have written.
func forgetFixes(t *testing.T) {
	t.Helper()
	written := false
	for _, pattern := range []string{
		"/etc/systemd/system/user@.service.d", "/etc/systemd/system/user-runtime-dir@.service.d", "/etc/systemd/system/user-.slice.d",
		"/etc/systemd/system/nomad.service.d", "/etc/sysctl.d/90-nomad-driver-podman-*.conf",
	} {
		paths, err := filepath.Glob(pattern)
		must.NoError(t, err)
		for _, path := range paths {
			must.NoError(t, os.RemoveAll(path))
			written = true
		}
	}
	if written {
		command(t, "systemctl", "daemon-reload")
	}
}

// hidden takes programs away. Those that are not there need not be.
func hidden(t *testing.T, programs ...string) (undo func()) {
	t.Helper()
	var paths []string
	for _, program := range programs {
		if path, err := exec.LookPath(program); err == nil {
			paths = append(paths, path)
		}
	}
	must.SliceNotEmpty(t, paths)
	return aside(t, paths...)
}

// aside moves files aside.
func aside(t *testing.T, paths ...string) (undo func()) {
	t.Helper()
	for _, path := range paths {
		must.NoError(t, os.Rename(path, path+".aside"))
	}
	return func() {
		for _, path := range paths {
			must.NoError(t, os.RemoveAll(path)) // what the remedy has put there
			must.NoError(t, os.Rename(path+".aside", path))
		}
	}
}

// edited changes the lines of files.
func edited(t *testing.T, change func(line string) string, files ...string) (undo func()) {
	t.Helper()
	before := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must.NoError(t, err)
		before[file] = text
		var after strings.Builder
		for line := range strings.Lines(string(text)) {
			after.WriteString(change(line))
		}
		must.NotEq(t, string(text), after.String())
		must.NoError(t, os.WriteFile(file, []byte(after.String()), 0o644))
	}
	return func() {
		for file, text := range before {
			must.NoError(t, os.WriteFile(file, text, 0o644))
		}
	}
}

// subordinate changes the lines of the user in the files of subordinate IDs, of which there are two.
func subordinate(t *testing.T, user hostUser, lines string) (undo func()) {
	t.Helper()
	return edited(t, func(line string) string {
		if strings.HasPrefix(line, user.name+":") {
			return lines
		}
		return line
	}, "/etc/subuid", "/etc/subgid")
}

// sysctl sets a kernel parameter.
func sysctl(t *testing.T, name, value string) (undo func()) {
	t.Helper()
	before := command(t, "sysctl", "--values", name)
	command(t, "sysctl", "--write", name+"="+value)
	return func() { command(t, "sysctl", "--write", name+"="+before) }
}

// goesWithUser undoes nothing: what has happened goes with the user, or with forgetFixes.
func goesWithUser() {}

// unprivilegedHelper takes from newuidmap what makes it work: the setuid bit, or its capability.
func unprivilegedHelper(t *testing.T) (undo func()) {
	t.Helper()
	const attribute = "security.capability"
	path, err := exec.LookPath("newuidmap")
	must.NoError(t, err)
	info, err := os.Stat(path)
	must.NoError(t, err)
	capability := make([]byte, 64)
	n, err := unix.Getxattr(path, attribute, capability)
	if err == nil {
		must.NoError(t, unix.Removexattr(path, attribute))
	}
	must.NoError(t, os.Chmod(path, info.Mode()&^os.ModeSetuid))
	return func() {
		must.NoError(t, os.Chmod(path, info.Mode()))
		if n > 0 {
			must.NoError(t, unix.Setxattr(path, attribute, capability[:n], 0))
		}
	}
}
