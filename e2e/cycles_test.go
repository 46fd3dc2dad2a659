//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// What driver and log process hold does not grow with the tasks they have seen.
func TestCycles(t *testing.T)     { testCycles(t, 1, 10) }
func TestCyclesMany(t *testing.T) { testCycles(t, 10, 20) }

// testCycles runs so many rounds of tasks after the first one.
func testCycles(t *testing.T, rounds, tasks int) {
	cycle(t, tasks)
	before := map[string]usage{"driver": usageOf(t, labClient.driverProcess(t)), "log process": usageOf(t, mainPID(t, logUnit))}
	for range rounds {
		cycle(t, tasks)
	}
	after := map[string]usage{"driver": usageOf(t, labClient.driverProcess(t)), "log process": usageOf(t, mainPID(t, logUnit))}
	for name, first := range before {
		last := after[name]
		t.Logf("%s: %+v before, %+v after %d tasks", name, first, last, rounds*tasks)
		must.LessEq(t, first.descriptors+4, last.descriptors, must.Sprint(name))
		must.LessEq(t, first.memory+8<<10, last.memory, must.Sprint(name))
	}
	// The runtime's own dump tells the goroutines. It ends the process, so it comes last.
	for unit, pid := range map[string]int{"nomad.service": labClient.driverProcess(t), logUnit: mainPID(t, logUnit)} {
		count := goroutines(t, unit, pid)
		t.Logf("the process of %s: %d goroutines after %d tasks", unit, count, (rounds+1)*tasks)
		must.Between(t, 1, count, 60, must.Sprint(unit))
	}
	eventually(t, "the driver's return", driverReady)
}

const logUnit = "nomad-podman-logs.service"

// cycle runs tasks to their ends, which come before the driver could look.
func cycle(t *testing.T, tasks int) {
	t.Helper()
	t.Run(fmt.Sprintf("%d tasks", tasks), func(t *testing.T) {
		j := run(t, "cycles", func(j *api.Job) { j.TaskGroups[0].Count = &tasks })
		eventually(t, "the end of the tasks", func() error {
			for _, stub := range j.allocs(t) {
				if stub.ClientStatus != "complete" {
					return fmt.Errorf("allocation %s is %s", stub.ID, stub.ClientStatus)
				}
			}
			if count := len(j.allocs(t)); count != tasks {
				return fmt.Errorf("%d allocations", count)
			}
			return nil
		})
		for _, stub := range j.allocs(t) {
			state := stub.TaskStates["cycle"]
			must.Zero(t, state.Restarts)
			must.Eq(t, "0", terminated(t, state).Details["exit_code"], must.Sprint(events(state)))
		}
	})
}

// usage is what a process holds.
type usage struct {
	descriptors int
	memory      int // KiB of anonymous memory (RssAnon of proc_pid_status(5))
}

func usageOf(t testing.TB, pid int) usage {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must.NoError(t, err)
	return usage{len(open), number(t, strings.Fields(procStatus(t, pid, "RssAnon"))[0])}
}

// goroutines counts those in the dump that a Go program writes when SIGQUIT ends it, in the journal of its unit. The
// driver's comes there through the agent.
func goroutines(t *testing.T, unit string, pid int) int {
	t.Helper()
	since := command(t, "date", "+%s.%N")
	must.NoError(t, syscall.Kill(pid, syscall.SIGQUIT))
	var count int
	header := regexp.MustCompile(`goroutine \d+ [^[]*\[`)
	// The registers end it: the last is gs on amd64, fault on arm64.
	end := regexp.MustCompile(`(?m)(^|\s)(gs|fault)\s+0x`)
	eventually(t, "the dump of process "+fmt.Sprint(pid), func() error {
		if _, err := os.Stat(filepath.Join("/proc", fmt.Sprint(pid))); err == nil {
			return fmt.Errorf("it still runs")
		}
		command(t, "journalctl", "--sync")
		log := command(t, "journalctl", "--quiet", "--output=cat", "--since=@"+since, "--unit="+unit)
		if !end.MatchString(log) {
			return errors.New("its end is not there")
		}
		count = len(header.FindAllString(log, -1))
		return nil
	})
	return count
}
