//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
)

func TestPreflightWhoAndWhere(t *testing.T) {
	installPreflight(t)

	t.Run("root", func(t *testing.T) {
		report, exit := preflight(t)
		must.Eq(t, 0, exit, must.Sprint(report.bad()))
		must.Eq(t, "ok", report.only(t, "account", teamA.name).Status)
		must.Eq(t, "ok", report.only(t, "podman-socket", root.name).Status)
		text, said, exit := execute(t, preflightProgram, "preflight")
		must.Eq(t, 0, exit)
		must.Eq(t, "", said)
		must.RegexMatch(t, regex(`(?m)^  ok +podman +podman version `), text)
		must.RegexMatch(t, regex(`(?m)^ready`), text)
		must.False(t, teamA.managerRuns())
	})

	t.Run("a host user", func(t *testing.T) {
		user := guest(t, "team-own")
		user.startManager(t)
		as := []string{"runuser", "-u", user.name, "--", preflightProgram, "preflight", "-json"}
		report, exit := preflightBy(t, append(as, configured(t, socketOf("default", user.name)+socketOf("other", teamB.name))...)...)
		must.Eq(t, 0, exit, must.Sprint(report.bad()))
		must.Eq(t, "ok", report.only(t, "manager", user.name).Status)
		for _, finding := range report.Findings {
			if finding.Subject != user.name && finding.Subject != "host" {
				must.Eq(t, "skipped", finding.Status, must.Sprint(finding))
			}
		}
	})

	t.Run("without systemd", func(t *testing.T) {
		hide := []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$@"`, "sh"}
		words := append(hide, preflightProgram, "preflight", "-json")
		report, exit := preflightBy(t, append(words, configured(t, socketOf("default", teamA.name))...)...)
		must.Eq(t, 2, exit)
		must.Eq(t, "fail", report.only(t, "systemd", "host").Status)
		must.Eq(t, "ok", report.only(t, "podman", "host").Status)
		must.Eq(t, "ok", report.only(t, "subordinate-ids", teamA.name).Status)
	})

	t.Run("wrong arguments", func(t *testing.T) {
		for _, args := range [][]string{{"-nonsense"}, {"team-a"}, {"-create"}, {"-yes"}, {"-fix"}} {
			out, said, exit := execute(t, append([]string{preflightProgram, "preflight"}, args...)...)
			must.Eq(t, 64, exit, must.Sprint(args))
			must.Eq(t, "", out)
			must.StrContains(t, said, "usage: ")
		}
	})
}

// Looking changes nothing, and of a run test nothing is left.
func TestPreflightChangesNothing(t *testing.T) {
	installPreflight(t)
	user := guest(t, "team-own")
	args := configured(t, socketOf("default", user.name))

	t.Run("a look", func(t *testing.T) {
		before := lookAtHost(t)
		_, exit := preflight(t, args...)
		must.Eq(t, 0, exit)
		changed := changes(before, lookAtHost(t))
		must.SliceEmpty(t, changed, must.Sprint(strings.Join(changed, "\n")))
	})

	podmans := []string{user.home(".local"), user.home(".config"), user.home(".cache")}
	before := lookAtHost(t, podmans...)
	nothingLeft := func(t *testing.T) {
		t.Helper()
		eventually(t, "the end of all that the run has started", func() error {
			if left := changes(before, lookAtHost(t, podmans...)); len(left) > 0 {
				return errors.New(strings.Join(left, "\n"))
			}
			return nil
		})
		must.False(t, user.managerRuns())
		must.False(t, user.lingers())
		must.SliceEmpty(t, stagingMounts(t))

		user.startManager(t)
		must.SliceEmpty(t, user.containers(t))
		must.Eq(t, "", user.podman(t, "images", "--all", "--quiet"))
		command(t, "systemctl", "stop", fmt.Sprintf("user@%d.service", user.uid))
	}

	t.Run("an interrupted run", func(t *testing.T) {
		cmd := exec.Command(preflightProgram, append([]string{"preflight", "-run"}, args...)...)
		must.NoError(t, cmd.Start())
		eventually(t, "the manager of "+user.name, func() error { return wantRunning(user, true) })
		must.NoError(t, cmd.Process.Signal(os.Interrupt))
		must.Error(t, cmd.Wait())
		must.Eq(t, 130, cmd.ProcessState.ExitCode())
		nothingLeft(t)
	})

	t.Run("a run", func(t *testing.T) {
		report, exit := preflight(t, append(args, "-run")...)
		must.Eq(t, 0, exit, must.Sprint(report.bad()))
		must.Eq(t, "ok", report.only(t, "run-test", user.name).Status)
		nothingLeft(t)
	})
}

// lookAtHost tells of files and units how they are. What changes by itself is left out, and what is below some directories.
func lookAtHost(t *testing.T, but ...string) map[string]string {
	t.Helper()
	but = append(but, "/run/log", "/run/systemd/journal", "/run/systemd/units", "/run/udev", "/run/systemd/netif",
		"/run/nomad-podman", "/var/lib/systemd/linger", // empty directories
		"/run/systemd/users") // logind forgets the guests of tests before after a while
	host := map[string]string{}
	for _, top := range []string{"/etc", "/home", "/run", "/var/lib"} {
		must.NoError(t, filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if slices.Contains(but, path) {
				return fs.SkipDir
			}
			var info os.FileInfo
			if err == nil {
				info, err = os.Lstat(path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile
			}
			if err != nil {
				return err
			}
			st, ok := info.Sys().(*syscall.Stat_t)
			must.True(t, ok)
			host[path] = fmt.Sprintf("%s of %d:%d", info.Mode(), st.Uid, st.Gid)
			if !info.IsDir() {
				host[path] += fmt.Sprintf(", %d bytes, changed at %d.%09d", st.Size, st.Ctim.Sec, st.Ctim.Nsec)
			}
			return nil
		}))
	}
	units := command(t, "systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--type=service,socket,slice,scope,target")
	for line := range strings.Lines(units) {
		if fields := strings.Fields(line); fields[2] == "active" { // those that are not are forgotten at any time
			host["unit "+fields[0]] = "active"
		}
	}
	return host
}

// changes are the differences of two looks.
func changes(before, after map[string]string) []string {
	var changed []string
	for what := range before {
		if after[what] != before[what] {
			changed = append(changed, fmt.Sprintf("%s: %q became %q", what, before[what], after[what]))
		}
	}
	for what := range after {
		if _, old := before[what]; !old {
			changed = append(changed, fmt.Sprintf("%s: %q is new", what, after[what]))
		}
	}
	return changed
}

// One command leads from nothing to a user whose tasks run.
func TestPreflightCreate(t *testing.T) {
	installPreflight(t)
	const name = "team-new"
	args := configured(t, socketOf("default", name))
	report, exit := preflight(t, args...)
	must.Eq(t, 2, exit)
	must.Eq(t, "fail", report.only(t, "socket", "default").Status)

	t.Cleanup(func() { forgetFixes(t) })
	report, exit = preflight(t, append(args, "-fix", "-yes", "-user", name, "-create")...)
	user := hostUser{name, lookupUID(t, name)}
	t.Cleanup(func() { user.remove(t) })
	must.Eq(t, 0, exit, must.Sprint(report.bad()))
	must.Eq(t, "ok", report.only(t, "run-test", name).Status)
	must.True(t, user.lingers())
	must.True(t, user.managerRuns())
	must.SliceEmpty(t, user.containers(t))
	must.Eq(t, "", user.podman(t, "images", "--all", "--quiet"))
	must.SliceEmpty(t, stagingMounts(t))

	// Now it is a host that is ready, and nothing is to be mended any more.
	out, said, exit := execute(t, append([]string{preflightProgram, "preflight", "-json", "-strict", "-run"}, args...)...)
	must.Eq(t, 0, exit, must.Sprint(out))
	must.Eq(t, "", said)
	golden, err := os.ReadFile("testdata/preflight/ready.json")
	must.NoError(t, err)
	must.Eq(t, string(golden), masked(out))
	_, said, exit = execute(t, append([]string{preflightProgram, "preflight", "-json", "-fix", "-yes"}, args...)...)
	must.Eq(t, 0, exit)
	must.StrContains(t, said, "There is nothing that can be mended")
}

var (
	configuredIn = regexp.MustCompile(`/tmp/preflight[0-9]+/`)
	numbers      = regexp.MustCompile(`\b[0-9][^\s,;:"')]*`)
)

// masked is a text without what differs among machines: versions, sizes, IDs, times.
func masked(text string) string {
	return numbers.ReplaceAllString(configuredIn.ReplaceAllString(text, "/tmp/"), "N")
}

// A run test touches neither the tasks that run nor what serves them.
func TestPreflightBesideTasks(t *testing.T) {
	installPreflight(t)
	j := run(t, "routing", only("unnamed"))
	before := runningAs(t, j, "unnamed", teamA)
	driver, logs := labClient.driverProcess(t), mainPID(t, logUnit)
	linked, err := os.Readlink(filepath.Join(stateDir, "logs/nomad-driver-podman"))
	must.NoError(t, err)

	report, exit := preflight(t, append(configured(t, socketOf("default", teamA.name)), "-run")...)
	must.Eq(t, 0, exit, must.Sprint(report.bad()))
	must.Eq(t, "ok", report.only(t, "run-test", teamA.name).Status)

	must.Eq(t, before.State.Pid, runningAs(t, j, "unnamed", teamA).State.Pid)
	must.Len(t, 1, teamA.containers(t))
	must.Eq(t, driver, labClient.driverProcess(t))
	must.Eq(t, logs, mainPID(t, logUnit))
	again, err := os.Readlink(filepath.Join(stateDir, "logs/nomad-driver-podman"))
	must.NoError(t, err)
	must.Eq(t, linked, again)
	must.Len(t, 1, entries(t, filepath.Join(stateDir, "intents")))
	must.True(t, teamA.lingers())
	must.StrNotContains(t, strings.Join(strings.Fields(teamA.podman(t, "images", "--format", "{{.Repository}}")), " "), "run-test")
}
