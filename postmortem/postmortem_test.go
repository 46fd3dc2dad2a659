package postmortem

import (
	"bytes"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

var (
	started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended   = started.Add(time.Minute)
)

// calm is a cgroup of 32 MiB that has met nothing.
func calm(at time.Time) cgroupv2.Look {
	return cgroupv2.Look{
		At: at,
		Stats: cgroupv2.Stats{
			Measured: cgroupv2.CPUTime | cgroupv2.CPUThrottling | cgroupv2.MemoryUsage | cgroupv2.MemoryPeak | cgroupv2.MemoryLimit |
				cgroupv2.MemoryCounts | cgroupv2.MemoryProtection | cgroupv2.ProcessLimit | cgroupv2.ProcessRefusals | cgroupv2.ProcessPeak |
				cgroupv2.CPULimit | cgroupv2.CPUStalls | cgroupv2.MemoryStalls | cgroupv2.IOStalls,
			CPUTotal: 1500 * time.Millisecond, MemoryPeak: 20 << 20, MemoryLimit: 32 << 20,
		},
		MemoryHigh: math.MaxUint64,
		PIDsLimit:  50, PIDsPeak: 3,
		CPUPeriod: 100 * time.Millisecond,
	}
}

func TestJudge(t *testing.T) {
	killed := Status{Code: 137, Signal: "SIGKILL"}
	oom := killed
	oom.OOMKilled = true
	atLimit := func(l *cgroupv2.Look) {
		l.MemoryPeak = 32 << 20
		l.MemoryEvents = cgroupv2.MemoryEvents{Max: 812, OOM: 1, OOMKill: 1}
	}
	for name, tc := range map[string]struct {
		exit    *Status
		before  func(*cgroupv2.Look) // at the earlier look and the last
		last    func(*cgroupv2.Look) // at the last only
		ago     time.Duration        // the last look, before the end
		once    bool                 // there was only one look
		unseen  bool                 // there was none
		err     string
		podman  string
		stderr  []string
		failed  Cause // of a start
		cause   Cause
		summary string
	}{
		"exit code": {exit: &Status{Code: 3}, cause: Exit, summary: "It ended with exit code 3"},
		"exit code and more": {
			exit: &Status{Code: 1}, stderr: []string{"1", "two", `say "three"`, "4"}, podman: "conmon failed", cause: Exit,
			summary: `It ended with exit code 1; podman: conmon failed; last on stderr: "two | say \"three\" | 4"`,
		},
		"signal":         {exit: &killed, cause: Signal, summary: "It ended by signal SIGKILL (exit code 137)"},
		"nobody looked":  {exit: &killed, unseen: true, cause: Signal, summary: "It ended by signal SIGKILL (exit code 137)"},
		"unknown":        {err: "nobody knows how", cause: Unknown, summary: "nobody knows how"},
		"0, but perhaps": {exit: &Status{}, err: "the host was rebooted", cause: Unknown, summary: "the host was rebooted"},
		"image":          {err: "no such image", failed: Image, cause: Image, summary: "no such image"},
		"start":          {err: "no such program", failed: Start, cause: Start, summary: "no such program"},
		"out of memory": {
			exit: &oom, last: atLimit, cause: OOM,
			summary: "The kernel killed it for its memory: limit 32MiB, peak 32MiB, 812 times at the limit in the last 12s",
		},
		"out of memory, looked at once": {
			exit: &oom, last: atLimit, once: true, cause: OOM,
			summary: "The kernel killed it for its memory: limit 32MiB, peak 32MiB, 812 times at the limit in the last 1m0s",
		},
		"out of memory, seen early": {
			exit: &oom, ago: 4 * time.Second, cause: OOM, stderr: []string{"allocating"},
			summary: `The kernel killed it for its memory: limit 32MiB, peak 20MiB (as seen 4s before the end); last on stderr: "allocating"`,
		},
		"out of memory, seen just before": {
			exit: &oom, ago: 80 * time.Millisecond, cause: OOM,
			summary: "The kernel killed it for its memory: limit 32MiB, peak 20MiB (as seen 80ms before the end)",
		},
		"out of memory, unseen": {exit: &oom, unseen: true, cause: OOM, summary: "The kernel killed it for its memory"},
		"the host out of memory": {
			exit: &oom, last: func(l *cgroupv2.Look) { l.MemoryEvents.OOMKill, l.MemoryLimit = 1, math.MaxUint64 }, cause: OOM,
			summary: "The kernel killed it because memory ran out in a cgroup above it or on the host: its own limit is none, peak 20MiB",
		},
		"no memory controller": {
			exit: &oom, before: func(l *cgroupv2.Look) { l.Measured = cgroupv2.CPUTime }, cause: OOM, summary: "The kernel killed it for its memory",
		},
		"old kernel": {
			exit: &oom, before: func(l *cgroupv2.Look) { l.Measured &^= cgroupv2.MemoryPeak }, cause: OOM,
			summary: "The kernel killed it for its memory: limit 32MiB, peak not measured",
		},
		"processes": {
			exit: &Status{Code: 1}, last: func(l *cgroupv2.Look) { l.PIDsRefused = 1 }, cause: PIDs,
			summary: "It was at its limit of processes (50, 1 fork refused in the last 12s) and ended with exit code 1",
		},
		"processes, long ago": {
			exit: &Status{Code: 1}, before: func(l *cgroupv2.Look) { l.PIDsRefused, l.PIDsPeak = 9, 50 }, cause: Exit,
			summary: "It ended with exit code 1; it has been at its limit of 50 processes",
		},
		"processes, and the controller taken away": {
			exit: &Status{Code: 1}, before: func(l *cgroupv2.Look) { l.PIDsRefused = 5 },
			last: func(l *cgroupv2.Look) {
				l.Measured &^= cgroupv2.ProcessLimit | cgroupv2.ProcessRefusals
				l.PIDsRefused = 0
			},
			cause: Exit, summary: "It ended with exit code 1",
		},
		"processes, and the controller given anew": {
			exit: &Status{Code: 1}, before: func(l *cgroupv2.Look) { l.PIDsRefused = 5 },
			last:  func(l *cgroupv2.Look) { l.PIDsRefused = 1 },
			cause: Exit, summary: "It ended with exit code 1",
		},
		"throttled": {
			exit: &Status{Code: 1}, last: func(l *cgroupv2.Look) { l.Periods, l.ThrottledPeriods, l.CPUQuota = 120, 110, 50*time.Millisecond },
			cause: Exit, summary: "It ended with exit code 1; throttled by its limit of 0.5 CPUs in 110 of 120 periods in the last 12s",
		},
		"throttled a little": {
			exit: &Status{Code: 1}, last: func(l *cgroupv2.Look) { l.Periods, l.ThrottledPeriods = 120, 20 },
			cause: Exit, summary: "It ended with exit code 1",
		},
		"strained": {
			exit: &Status{Code: 1}, last: func(l *cgroupv2.Look) {
				l.MemoryEvents.Max = 1
				l.MemoryPressure.Some.Avg10, l.IOPressure.Some.Avg10, l.CPUPressure.Some.Avg10 = 80.4, 30, 24
			},
			cause: Exit, summary: "It ended with exit code 1; memory: limit 32MiB, peak 20MiB, 1 time at the limit in the last 12s; " +
				"of its last 10 s it waited for memory 80 %, I/O 30 %",
		},
	} {
		t.Run(name, func(t *testing.T) {
			earlier, last := calm(ended.Add(-12*time.Second)), calm(ended.Add(-tc.ago))
			if tc.before != nil {
				tc.before(&earlier)
				tc.before(&last)
			}
			if tc.last != nil {
				tc.last(&last)
			}
			if tc.once {
				earlier = last
			}
			if tc.unseen {
				earlier, last = cgroupv2.Look{}, cgroupv2.Look{}
			}
			r := Record{Exit: tc.exit, Cause: tc.failed, Error: tc.err, PodmanError: tc.podman, Stderr: tc.stderr}
			r.Cgroup = CgroupOf(last, earlier, started, ended)
			r.Judge()
			must.Eq(t, tc.cause, r.Cause)
			must.Eq(t, tc.summary, r.Summary)
		})
	}
}

// A sentence repeats not more than a part of what was printed.
func TestJudge_LongWords(t *testing.T) {
	r := Record{Exit: &Status{Code: 1}, Stderr: []string{strings.Repeat("ä", 500) + "z"}}
	r.Judge()
	must.StrHasSuffix(t, `äz"`, r.Summary)
	must.Less(t, 2*saidText, len(r.Summary))
	must.StrNotContains(t, r.Summary, "�")

	r = Record{Exit: &Status{Code: 1}, PodmanError: strings.Repeat("x", maxText)}
	r.Judge()
	must.StrHasSuffix(t, "xx…", r.Summary)
	must.Less(t, 2*saidText, len(r.Summary))
}

func TestSurvived(t *testing.T) {
	last := calm(ended)
	must.Eq(t, "The kernel has killed a process of the task for its memory (limit 32MiB, peak 20MiB); the task goes on",
		CgroupOf(last, last, started, ended).Survived(1))
	must.Eq(t, "The kernel has killed 2 processes of the task for its memory; the task goes on", (*Cgroup)(nil).Survived(2))
}

func TestLines(t *testing.T) {
	must.Eq(t, []string{}, Lines(nil))
	must.Eq(t, []string{"red  alert", "two", "no newline"}, Lines([]byte("\n\x1b[31mred\r\x00alert\x1b[0m\n\n two \nno newline")))
	must.Eq(t, []string{"abc\u200bd"[:3] + " d", "\ufffd"}, Lines([]byte("abc\u200bd\n\xff\n")))
	text := ""
	for i := range 20 {
		text += strconv.Itoa(i) + "\n"
	}
	must.Eq(t, maxLines, len(Lines([]byte(text))))
	must.Eq(t, "19", Lines([]byte(text))[maxLines-1])
	long := Clean(strings.Repeat("ä", maxText))
	must.LessEq(t, maxText+len("…"), len(long))
	must.StrHasSuffix(t, "ä…", long)
}

// Both forms are what others read: run this test with -update after a change that is meant.
func TestPrint(t *testing.T) {
	uid := uint32(2001)
	oom := Record{
		AllocID: "5fd2c5c5-0000-1111-2222-333333333333", Task: "redis", Group: "cache", Job: "redis", Namespace: "default",
		HostUser: "team-a", UID: &uid, Socket: "default", Image: "docker.io/library/redis:7", Container: strings.Repeat("c", 64),
		StartedAt: &started, EndedAt: ended, Exit: &Status{137, "SIGKILL", true},
		Error: "OOM Killed: the task has used up its memory", Stderr: []string{"allocating", "<more>"},
	}
	last, earlier := calm(ended.Add(-12*time.Millisecond)), calm(ended.Add(-11*time.Second))
	last.MemoryPeak, last.MemoryEvents = 32<<20, cgroupv2.MemoryEvents{Max: 812, OOM: 1, OOMKill: 1}
	last.Measured |= cgroupv2.SwapUsage
	last.MemoryLow = 16 << 20
	last.CPUQuota, last.Periods, last.ThrottledPeriods, last.ThrottledTime = 50*time.Millisecond, 100, 5, 250*time.Millisecond
	last.MemoryPressure.Some = cgroupv2.Stall{Avg10: 34.1, Total: 3 * time.Second}
	oom.Cgroup = CgroupOf(last, earlier, started, ended)
	fast := oom
	fast.StartedAt, fast.EndedAt, fast.Exit, fast.Error, fast.Cgroup = &started, started.Add(20*time.Millisecond), &Status{Code: 2}, "", nil
	fast.Stderr = []string{}
	image := Record{
		Cause: Image, AllocID: oom.AllocID, Task: "web", Group: "cache", Job: "redis", Namespace: "default",
		EndedAt: ended, Error: "task web: getting the image: no such image", Stderr: []string{},
	}
	records := []*Record{&oom, &fast, &image}
	for _, r := range records {
		r.Judge()
	}
	for file, form := range map[string]func(io.Writer, []*Record) error{"explain.txt": PrintText, "explain.json": PrintJSON} {
		t.Run(file, func(t *testing.T) {
			var out bytes.Buffer
			must.NoError(t, form(&out, records))
			golden := filepath.Join("testdata", file)
			if *update {
				must.NoError(t, os.WriteFile(golden, out.Bytes(), 0o600))
			}
			want, err := os.ReadFile(golden)
			must.NoError(t, err)
			must.Eq(t, string(want), out.String())
		})
	}
}
