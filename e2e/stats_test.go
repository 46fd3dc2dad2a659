//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// quietTime is how long three tasks run while podman must be left alone.
const quietTime = time.Minute

func TestStats(t *testing.T) {
	started := time.Now()
	j := run(t, "stats")
	alloc := j.running(t, "busy")
	j.running(t, "idle")
	j.running(t, "rootful")
	busy, idle, rootful := teamA.container(t, alloc, "busy"), teamA.container(t, alloc, "idle"), root.container(t, alloc, "rootful")
	must.Positive(t, requests(t, teamA, started), must.Sprint("podman's log shows no request at all, so that this test shows nothing"))
	must.Positive(t, requests(t, root, started))
	eventually(t, "the end of podman's services", noService)

	// From here on nobody has a reason to talk to podman.
	quiet := time.Now()
	measures := []*measure{{task: "busy", container: busy}, {task: "idle", container: idle}, {task: "rootful", container: rootful}}
	eventually(t, "a minute of measurements", func() error {
		usage, err := nomad.Allocations().Stats(alloc, nil)
		must.NoError(t, err)
		for _, m := range measures {
			m.add(t, usage.Tasks[m.task])
		}
		return measured(measures, quietTime)
	})
	must.NoError(t, noService())
	must.Zero(t, requests(t, teamA, quiet))
	must.Zero(t, requests(t, root, quiet))

	for _, m := range measures {
		t.Run(m.task, func(t *testing.T) { m.compare(t) })
	}
	node, err := readyNode()
	must.NoError(t, err)
	mhz := float64(number(t, node.Attributes["cpu.totalcompute"])) / float64(number(t, node.Attributes["cpu.numcores"]))
	near(t, "ticks of the busy task", measures[0].nomad.ticks, measures[0].nomad.total*mhz, 1)
	must.Greater(t, 10, measures[0].nomad.percent(), must.Sprint("the busy task is not busy"))
}

// cpuTime is what a task has used, in seconds.
type cpuTime struct{ total, user, system float64 }

// measure compares what Nomad says about a task with what its cgroup says, over the same time.
type measure struct {
	task      string
	container container

	first, last time.Time // of Nomad's samples
	begin, end  cpuTime   // of the cgroup, read right after the first and the last sample
	nomad       usedTime
	memory      *api.MemoryStats
}

// usedTime is the sum of Nomad's percentages over time, and of what it calls ticks: MHz over time.
type usedTime struct {
	cpuTime
	ticks    float64
	duration time.Duration
}

func (u usedTime) percent() float64 { return 100 * u.total / u.duration.Seconds() }

// measured tells whether all have seen samples over the duration.
func measured(measures []*measure, duration time.Duration) error {
	for _, m := range measures {
		if over := m.last.Sub(m.first); over < duration {
			return fmt.Errorf("task %s is measured over %s", m.task, over)
		}
	}
	return nil
}

// add takes a sample, if it is a new one.
func (m *measure) add(t *testing.T, usage *api.TaskResourceUsage) {
	t.Helper()
	if usage == nil || usage.ResourceUsage == nil {
		return
	}
	at := time.Unix(0, usage.Timestamp)
	if !at.After(m.last) {
		return
	}
	now := m.read(t)
	if m.first.IsZero() {
		m.first, m.last, m.begin = at, at, now
		return
	}
	cpu, since := usage.ResourceUsage.CpuStats, at.Sub(m.last)
	m.nomad.total += cpu.Percent / 100 * since.Seconds()
	m.nomad.user += cpu.UserMode / 100 * since.Seconds()
	m.nomad.system += cpu.SystemMode / 100 * since.Seconds()
	m.nomad.ticks += cpu.TotalTicks * since.Seconds()
	m.nomad.duration += since
	m.last, m.end, m.memory = at, now, usage.ResourceUsage.MemoryStats
}

// read is the cgroup's word (cgroup-v2.rst of the kernel, "cpu.stat": microseconds).
func (m *measure) read(t *testing.T) cpuTime {
	t.Helper()
	seconds := func(key string) float64 { return float64(m.container.cgroupValue(t, "cpu.stat", key)) / 1e6 }
	return cpuTime{total: seconds("usage_usec"), user: seconds("user_usec"), system: seconds("system_usec")}
}

func (m *measure) compare(t *testing.T) {
	seconds := m.nomad.duration.Seconds()
	for _, cpu := range []struct {
		name          string
		nomad, cgroup float64
	}{
		{"total", m.nomad.total, m.end.total - m.begin.total},
		{"user", m.nomad.user, m.end.user - m.begin.user},
		{"system", m.nomad.system, m.end.system - m.begin.system},
	} {
		t.Logf("%s CPU: Nomad %.3f s, cgroup %.3f s of %.1f s", cpu.name, cpu.nomad, cpu.cgroup, seconds)
		near(t, cpu.name+" CPU time", cpu.nomad, cpu.cgroup, 0.001*seconds)
	}
	memory := map[string][2]float64{
		"RSS":   {float64(m.memory.RSS), float64(m.container.cgroupValue(t, "memory.stat", "anon"))},
		"cache": {float64(m.memory.Cache), float64(m.container.cgroupValue(t, "memory.stat", "file"))},
		"usage": {float64(m.memory.Usage), float64(number(t, m.container.cgroupFile(t, "memory.current")))},
		"max":   {float64(m.memory.MaxUsage), float64(number(t, m.container.cgroupFile(t, "memory.peak")))},
	}
	for name, values := range memory {
		t.Logf("memory %s: Nomad %.0f, cgroup %.0f", name, values[0], values[1])
		near(t, "memory "+name, values[0], values[1], 64<<10)
	}
	must.SliceContainsSubset(t, m.memory.Measured, []string{"RSS", "Cache", "Usage", "Max Usage"})
}

// near asserts a difference of at most 5 %, or of what is below the resolution.
func near(t *testing.T, what string, got, want, resolution float64) {
	t.Helper()
	must.LessEq(t, max(0.05*want, resolution), math.Abs(got-want), must.Sprintf("%s: Nomad says %f, the cgroup %f", what, got, want))
}

// requests counts the requests in a podman service's log since a time.
func requests(t testing.TB, u hostUser, since time.Time) int {
	t.Helper()
	unit := []string{"_SYSTEMD_UNIT=podman.service"}
	if u != root {
		unit = []string{"_SYSTEMD_USER_UNIT=podman.service", fmt.Sprintf("_UID=%d", u.uid)}
	}
	command(t, "journalctl", "--sync")
	log := command(t, "journalctl", append([]string{"--quiet", "--output=cat", fmt.Sprintf("--since=@%.3f", float64(since.UnixMilli())/1000)}, unit...)...)
	return strings.Count(log, `"GET /`) + strings.Count(log, `"POST /`) + strings.Count(log, `"DELETE /`)
}

// noService tells whether any podman service is running. It would end by itself some seconds after its last request.
func noService() error {
	found, err := exec.Command("pgrep", "--full", "--list-full", "podman .*system service").Output()
	if err == nil {
		return fmt.Errorf("running: %s", strings.TrimSpace(string(found)))
	}
	return nil
}
