//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

func TestLogs(t *testing.T) { testLogs(t, labClient) }

func testLogs(t *testing.T, on client) {
	j := run(t, "logs", on.place)

	t.Run("streams are apart and unprefixed", func(t *testing.T) {
		alloc, _ := j.dead(t, "streams")
		must.Eq(t, "out 1\nout 2\nout 3\n", string(j.log(t, alloc, "streams", "stdout")))
		must.Eq(t, "err 1\nerr 2\nerr 3\n", string(j.log(t, alloc, "streams", "stderr")))
	})

	t.Run("every byte arrives", func(t *testing.T) {
		var all []byte
		for b := range 256 {
			all = append(all, byte(b))
		}
		alloc, _ := j.dead(t, "binary")
		must.Eq(t, all, j.log(t, alloc, "binary", "stdout"))
		must.Eq(t, "", string(j.log(t, alloc, "binary", "stderr")))
	})

	t.Run("a line of 1 MiB stays whole", func(t *testing.T) {
		var numbers []string
		for i := range 166000 {
			numbers = append(numbers, strconv.Itoa(i+1))
		}
		line := strings.Join(numbers, ",") + "\n"
		must.Greater(t, 1<<20, len(line))
		alloc, _ := j.dead(t, "long")
		sameLines(t, line+"after\n", j.log(t, alloc, "long", "stdout"))
	})
}

// awaitCounted waits until the task "count" has said on stderr, and nothing else, that it is done.
func awaitCounted(t *testing.T, alloc *api.Allocation) {
	t.Helper()
	eventually(t, "the end of the count", func() error {
		stderr, err := readLog(alloc, "count", "stderr")
		if err == nil && string(stderr) != "done\n" {
			err = fmt.Errorf("the standard error is %q", stderr)
		}
		return err
	})
}

// The driver's process is killed, not the agent: what the task writes meanwhile is more than a FIFO holds.
func TestLogsOfKilledDriver(t *testing.T) { testLogsOfKilledDriver(t, labClient) }

func testLogsOfKilledDriver(t *testing.T, on client) {
	j := run(t, "count", on.place)
	j.prints(t, "count", "\n20000\n")
	alloc := j.running(t, "count")
	before := on.tasks.container(t, alloc, "count")

	must.NoError(t, syscall.Kill(on.driverProcess(t), syscall.SIGKILL))
	on.letGo(t, alloc, "count")
	awaitCounted(t, alloc)

	var want strings.Builder
	for i := range 100_000 {
		fmt.Fprintln(&want, i+1)
	}
	j.prints(t, "count", "\n100000\n")
	sameLines(t, want.String(), j.log(t, alloc, "count", "stdout"))
	_, state, _, err := j.state("count", 0)
	must.NoError(t, err)
	must.Eq(t, "running", state.State)
	must.Eq(t, 0, state.Restarts)
	must.Eq(t, before.ID, on.tasks.container(t, alloc, "count").ID)
}

// sameLines compares long texts and shows where they differ.
func sameLines(t *testing.T, want string, got []byte) {
	t.Helper()
	if want == string(got) {
		return
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	around := func(text string) string { return text[max(0, at-30):min(len(text), at+30)] }
	t.Fatalf("the texts of %d and %d bytes (%d lines) differ at byte %d: want %q, got %q",
		len(want), len(got), bytes.Count(got, []byte("\n")), at, around(want), around(string(got)))
}

// driverProcess is the driver's process under the agent, not the log process, which has the same program.
func (c client) driverProcess(t testing.TB) int {
	t.Helper()
	found := c.driverProcesses(t)
	must.Len(t, 1, found)
	return found[0]
}

func (c client) driverProcesses(t testing.TB) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	must.NoError(t, err)
	var found []int
	for _, link := range links {
		program, err := os.Readlink(link)
		if processGone(err) || errors.Is(err, os.ErrPermission) {
			continue // it belongs to the kernel, or has ended: root may read all others
		}
		must.NoError(t, err)
		dir := filepath.Dir(link)
		arguments, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if processGone(err) {
			continue
		}
		must.NoError(t, err)
		if filepath.Base(program) == "nomad-driver-podman" && !bytes.Contains(arguments, []byte("\x00logs")) {
			pid := number(t, filepath.Base(dir))
			if uid, runs := uidOf(t, pid); runs && uid == c.user.uid {
				found = append(found, pid)
			}
		}
	}
	return found
}
