//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

func TestLogging(t *testing.T) {
	j := run(t, "logging", only("journald", "unknown-driver", "unknown-option"))

	t.Run("journald, rootless", func(t *testing.T) {
		alloc, _ := j.dead(t, "rootless")
		must.Eq(t, "out 1\nout 2\nout 3\na\x01b\n\nend", string(j.log(t, alloc, "rootless", "stdout")))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", string(j.log(t, alloc, "rootless", "stderr")))
		must.Eq(t, "out 1\nout 2\nout 3\na\x01b\n\nend", journal(t, "CONTAINER_TAG=e2e-rootless", "SYSLOG_IDENTIFIER=e2e-rootless", "_UID=2001", "PRIORITY=6"))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", journal(t, "CONTAINER_TAG=e2e-rootless", "_UID=2001", "PRIORITY=3"))
	})

	t.Run("journald, rootful", func(t *testing.T) {
		alloc, _ := j.dead(t, "rootful")
		var numbers []string
		for i := range 20000 {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
		want := "out 1\nout 2\nout 3\n" + strings.Join(numbers, ",") + "\n"
		sameLines(t, want, j.log(t, alloc, "rootful", "stdout"))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", string(j.log(t, alloc, "rootful", "stderr")))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", journal(t, "CONTAINER_TAG=e2e-"+containerName(alloc, "rootful"), "_UID=0", "PRIORITY=3"))
	})

	for _, tc := range []struct{ task, says string }{
		{"unknown-driver", `"logging": the driver "json-file" is not known; use "nomad" or "journald"`},
		{"unknown-option", `"logging": the driver "journald" has no option "max-size"; it takes ["tag"]`},
	} {
		t.Run(tc.task, func(t *testing.T) {
			_, state := j.dead(t, tc.task)
			must.True(t, state.StartedAt.IsZero(), must.Sprint("the task was started"))
			must.StrContains(t, events(state), tc.says)
		})
	}
}

// What a task logs to the journal is not lost when driver and log process are killed, and is not what others say. The
// journal is a persistent one, in which every user has files of their own.
func TestLoggingOfKilledLogProcess(t *testing.T) {
	persistentJournal(t)
	j := run(t, "logging", only("count"))
	j.prints(t, "count", "\n1000\n")
	alloc := j.running(t, "count")
	id := teamA.container(t, alloc, "count").ID

	reader := children(t, mainPID(t, logUnit))
	must.Len(t, 1, reader)
	must.Eq(t, "65534 65534 65534 65534", strings.Join(strings.Fields(procStatus(t, reader[0], "Uid")), " "))
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		must.Eq(t, "0000000000000000", procStatus(t, reader[0], set))
	}
	must.Eq(t, "1", procStatus(t, reader[0], "NoNewPrivs"))

	forge(t, teamB, "forged by "+teamB.name, id)
	must.NoError(t, syscall.Kill(mainPID(t, logUnit), syscall.SIGKILL))
	must.NoError(t, syscall.Kill(labClient.driverProcess(t), syscall.SIGKILL))
	labClient.letGo(t, alloc, "count")
	j.prints(t, "count", "\n2000\n")
	must.NoError(t, syscall.Kill(children(t, mainPID(t, logUnit))[0], syscall.SIGKILL))

	awaitCounted(t, alloc)
	must.Eq(t, 2000, counted(t, j.log(t, alloc, "count", "stdout"), true))
	own, err := filepath.Glob("/var/log/journal/*/user-2001.journal")
	must.NoError(t, err)
	must.SliceNotEmpty(t, own)
}

func TestLoggingDisabled(t *testing.T) {
	j := run(t, "logging", only("disabled"))
	alloc := j.running(t, "disabled")
	j.running(t, "disabled-journald")

	must.Eq(t, "none", logDriver(t, teamA, alloc, "disabled"))
	must.Eq(t, "journald", logDriver(t, teamA, alloc, "disabled-journald"))
	id := teamA.container(t, alloc, "disabled-journald").ID
	eventually(t, "the line in the journal", func() error {
		if got := journal(t, "CONTAINER_ID_FULL="+id); got != "to the journal\n" {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
	must.SliceEmpty(t, fifos(t, alloc))
	must.SliceEmpty(t, followed(t))
	kept, err := filepath.Glob(filepath.Join(allocDir(alloc.ID), "alloc", "logs", "disabled*"))
	must.NoError(t, err)
	must.SliceEmpty(t, kept)
	storage := command(t, "find", "/home/team-a/.local/share/containers/storage/overlay-containers", "-name", "ctr.log")
	must.Eq(t, "", storage)

	j.stop(t)
	_, state := j.dead(t, "disabled")
	must.Eq(t, "137", terminated(t, state).Details["exit_code"])
}

// The agent's configuration says where output of tasks goes whose jobs do not.
func TestLoggingOfTheNode(t *testing.T) {
	t.Run("logging", func(t *testing.T) {
		configureAgent(t, "journald")
		j := run(t, "logs", only("logs"), func(j *api.Job) {
			j.TaskGroups[0].Tasks = j.TaskGroups[0].Tasks[:2]
			j.TaskGroups[0].Tasks[1].Config["logging"] = map[string]any{"driver": "nomad"}
		})
		alloc, _ := j.dead(t, "streams")
		must.Eq(t, "out 1\nout 2\nout 3\n", string(j.log(t, alloc, "streams", "stdout")))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", journal(t, "CONTAINER_TAG=of-the-node", "CONTAINER_NAME="+containerName(alloc, "streams"), "PRIORITY=3"))
		j.dead(t, "binary")
		must.Eq(t, "", journal(t, "CONTAINER_NAME="+containerName(alloc, "binary")))
	})

	t.Run("disable_log_collection", func(t *testing.T) {
		configureAgent(t, "nologs")
		j := run(t, "stop", only("stop"))
		alloc := j.running(t, "kill-signal")
		name := containerName(alloc, "kill-signal")
		usual := teamA.podman(t, "info", "--format", "{{.Host.LogDriver}}")
		must.Eq(t, usual+" 16.78MB", teamA.podman(t, "container", "inspect", "--format", "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Size}}", name))
		eventually(t, "the line in podman's log", func() error {
			if got := teamA.podman(t, "logs", name); got != "ready" {
				return fmt.Errorf("it has %q", got)
			}
			return nil
		})
		must.SliceEmpty(t, fifos(t, alloc))
		must.SliceEmpty(t, followed(t))
		must.SliceEmpty(t, processes(t, "/usr/local/bin/nomad\x00logmon"))
		j.stop(t)
		_, state := j.dead(t, "kill-signal")
		must.Eq(t, "3", terminated(t, state).Details["exit_code"])
	})
}

// A task that logs faster than Nomad reads loses its oldest lines, and its owner hears of it.
func TestLoggingBacklog(t *testing.T) {
	const limit = 64 << 20
	j := run(t, "logging", only("flood"))
	alloc := j.running(t, "flood")
	logmon := readerOf(t, fifo(alloc, "flood", "stdout"))
	must.NoError(t, syscall.Kill(logmon, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(logmon, syscall.SIGCONT) }) // has ended, when all went well
	labClient.letGo(t, alloc, "flood")

	j.says(t, "flood", "Nomad does not read the log fast enough")
	eventually(t, "the end of the flood", func() error {
		_, err := os.Stat(filepath.Join(allocDir(alloc.ID), "flood", "local", "flooded"))
		return err
	})
	var log syscall.Stat_t
	must.NoError(t, syscall.Stat(teamA.podman(t, "container", "inspect", "--format", "{{.HostConfig.LogConfig.Path}}", containerName(alloc, "flood")), &log))
	must.LessEq(t, limit, log.Blocks*512)

	must.NoError(t, syscall.Kill(logmon, syscall.SIGCONT))
	eventually(t, "the line in the log", func() error {
		stderr, err := readLog(alloc, "flood", "stderr")
		if err == nil && !bytes.Contains(stderr, []byte("[nomad-driver-podman: output was dropped here because nobody read it; ")) {
			err = fmt.Errorf("the standard error is %q", stderr)
		}
		return err
	})
}

// journal is the text of the journal's entries that match. conmon's have the newlines of their lines.
func journal(t *testing.T, matches ...string) string {
	t.Helper()
	command(t, "journalctl", "--sync")
	text, err := try("journalctl", append([]string{"--quiet", "--all", "--output=json", "--output-fields=MESSAGE"}, matches...)...)
	must.NoError(t, err)
	var all strings.Builder
	for decoder := json.NewDecoder(strings.NewReader(text)); decoder.More(); {
		var entry struct{ MESSAGE json.RawMessage }
		must.NoError(t, decoder.Decode(&entry))
		var message string
		if json.Unmarshal(entry.MESSAGE, &message) != nil { // what is not text is an array of numbers
			var numbers []byte
			for _, number := range strings.FieldsFunc(string(entry.MESSAGE), func(r rune) bool { return !unicode.IsDigit(r) }) {
				b, err := strconv.ParseUint(number, 10, 8)
				must.NoError(t, err)
				numbers = append(numbers, byte(b))
			}
			message = string(numbers)
		}
		all.WriteString(message)
	}
	return all.String()
}

// persistentJournal moves the machine's journal to the disk, where users may read what they have logged. That makes it
// podman's usual log driver; a service that runs has decided before.
func persistentJournal(t *testing.T) {
	t.Helper()
	must.NoError(t, os.MkdirAll("/var/log/journal", 0o755))
	command(t, "systemd-tmpfiles", "--create", "--prefix=/var/log/journal")
	command(t, "journalctl", "--flush")
	teamA.systemctl(t, "stop", "podman.service")
}

// forge writes an entry into the journal, as a user, that claims to be of a container.
func forge(t *testing.T, u hostUser, text, container string) {
	t.Helper()
	entry := fmt.Sprintf("MESSAGE=%s\nPRIORITY=6\nCONTAINER_ID_FULL=%s\n", text, container)
	command(t, "runuser", "-u", u.name, "--", "sh", "-c", `printf '%s' "$1" | logger --journald`, "sh", entry)
	must.Eq(t, text, journal(t, "CONTAINER_ID_FULL="+container, fmt.Sprintf("_UID=%d", u.uid)))
}

// logDriver is the log driver of a task's container.
func logDriver(t *testing.T, u hostUser, alloc *api.Allocation, task string) string {
	t.Helper()
	return u.podman(t, "container", "inspect", "--format", "{{.HostConfig.LogConfig.Type}}", containerName(alloc, task))
}

func fifo(alloc *api.Allocation, task, stream string) string {
	return filepath.Join(allocDir(alloc.ID), "alloc", "logs", "."+task+"."+stream+".fifo")
}

// fifos are Nomad's FIFOs of an allocation.
func fifos(t *testing.T, alloc *api.Allocation) []string {
	t.Helper()
	found, err := filepath.Glob(fifo(alloc, "*", "*"))
	must.NoError(t, err)
	return found
}

// followed are the tasks that the log process follows, when there is one.
func followed(t *testing.T) []string {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "/run/nomad-podman/logs/control.sock")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	response, err := client.Get("http://logs/tasks")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must.NoError(t, err)
	defer func() { must.NoError(t, response.Body.Close()) }()
	var tasks []struct{ Task string }
	must.NoError(t, json.NewDecoder(response.Body).Decode(&tasks))
	var names []string
	for _, task := range tasks {
		names = append(names, task.Task)
	}
	return names
}

// children are the processes whose parent that is.
func children(t *testing.T, parent int) []int {
	t.Helper()
	var pids []int
	for _, pid := range strings.Fields(command(t, "ps", "--ppid", strconv.Itoa(parent), "-o", "pid=")) {
		pids = append(pids, number(t, pid))
	}
	return pids
}

// processes are those whose command line begins so.
func processes(t *testing.T, commandLine string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must.NoError(t, err)
	var pids []int
	for _, file := range files {
		content, err := os.ReadFile(file)
		if processGone(err) {
			continue
		}
		must.NoError(t, err)
		if bytes.HasPrefix(content, []byte(commandLine)) {
			pids = append(pids, number(t, filepath.Base(filepath.Dir(file))))
		}
	}
	return pids
}

// readerOf is the logmon that reads a FIFO.
func readerOf(t *testing.T, fifo string) int {
	t.Helper()
	for _, pid := range processes(t, "/usr/local/bin/nomad\x00logmon") {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		must.NoError(t, err)
		if slices.ContainsFunc(links, func(link string) bool {
			target, _ := os.Readlink(link) // an error means that it was closed meanwhile
			return target == fifo
		}) {
			return pid
		}
	}
	t.Fatalf("no logmon reads %s", fifo)
	return 0
}
