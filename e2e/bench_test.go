//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cgroupv2"
)

// The benchmarks measure once (-benchtime 1x). bench/run runs them and makes the report of what they print; what it
// reads there are the names and units below.

// idleTasks is how many tasks run while nothing happens.
const idleTasks = 50

// firstLook is how old the driver is when its one look for stray containers is over, which it takes even when no task ends
// (gc.dangling_containers.creation_grace, and time for the look).
const firstLook = 5*time.Minute + 15*time.Second

// describeMachine prints where the benchmarks run, as lines of configuration of Go's benchmark format
// (https://go.dev/design/14313-benchmark-format).
var describeMachine = sync.OnceFunc(func() {
	node, err := readyNode()
	if err != nil {
		panic(err)
	}
	kind, _ := try("systemd-detect-virt") // it fails where there is none
	podman, _ := try("podman", "version", "--format", "{{.Client.Version}}")
	fmt.Println("virtualization:", kind)
	fmt.Println("podman:", podman)
	for key, attribute := range map[string]string{
		"processors": "cpu.numcores", "kernel": "kernel.version", "os": "os.name", "os-version": "os.version", "nomad": "nomad.version",
	} {
		fmt.Printf("%s: %s\n", key, node.Attributes[attribute])
	}
})

// BenchmarkStart measures how long it takes until containers run: from the job's registration to Nomad's last Started
// event, and until all of as many `podman run --detach` are back.
func BenchmarkStart(b *testing.B) {
	describeMachine()
	for _, tc := range []struct{ tasks, rounds int }{{1, 3}, {20, 1}} {
		b.Run(fmt.Sprintf("tasks=%d/with=driver", tc.tasks), func(b *testing.B) {
			reportMedian(b, tc.rounds, func() time.Duration {
				began := time.Now()
				j := run(b, "bench", count(tc.tasks))
				var last time.Time
				for _, alloc := range j.allRunning(b) {
					for _, event := range alloc.TaskStates["idle"].Events {
						if at := time.Unix(0, event.Time); event.Type == api.TaskStarted && at.After(last) {
							last = at
						}
					}
				}
				j.purge(b)
				return last.Sub(began)
			})
		})
		b.Run(fmt.Sprintf("tasks=%d/with=podman-run", tc.tasks), func(b *testing.B) {
			reportMedian(b, tc.rounds, func() time.Duration {
				began := time.Now()
				var group errgroup.Group
				var names []string
				for i := range tc.tasks {
					name := fmt.Sprintf("bench-%d", i)
					names = append(names, name)
					group.Go(func() error {
						_, err := teamA.tryPodman("run", "--detach", "--name", name, "busybox", "sleep", "1d")
						return err
					})
				}
				must.NoError(b, group.Wait())
				took := time.Since(began)
				teamA.podman(b, append([]string{"rm", "--force", "--time", "0"}, names...)...)
				return took
			})
		})
	}
}

func reportMedian(b *testing.B, rounds int, measure func() time.Duration) {
	var took []time.Duration
	for range rounds {
		took = append(took, measure())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[rounds/2].Nanoseconds()), "ns/op")
}

// count makes a group's tasks that many.
func count(tasks int) func(*api.Job) {
	return func(j *api.Job) { j.TaskGroups[0].Count = &tasks }
}

// allRunning waits until all of the first group's tasks run.
func (j *job) allRunning(t testing.TB) []*api.AllocationListStub {
	t.Helper()
	var index uint64
	for deadline := time.Now().Add(4 * patience); ; {
		allocs, meta, err := nomad.Jobs().Allocations(*j.ID, true, &api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second})
		must.NoError(t, err)
		index = meta.LastIndex
		running := 0
		for _, alloc := range allocs {
			must.NotEq(t, "failed", alloc.ClientStatus, must.Sprint("allocation "+alloc.ID))
			if alloc.ClientStatus == "running" {
				running++
			}
		}
		if running == *j.TaskGroups[0].Count {
			return allocs
		}
		must.True(t, time.Now().Before(deadline), must.Sprintf("only %d of %d tasks run", running, *j.TaskGroups[0].Count))
	}
}

// BenchmarkTasks measures what tasks cost that run, and how soon Nomad learns of their ends.
func BenchmarkTasks(b *testing.B) {
	describeMachine()
	first := run(b, "bench", count(1)) // starts the log process
	first.allRunning(b)
	first.purge(b)
	driver, logs := labClient.driverProcess(b), mainPID(b, logUnit)
	benchMemory(b, 0, driver, logs)
	j := run(b, "bench", count(idleTasks))
	allocs := j.allRunning(b)
	<-time.After(firstLook - age(b, driver))
	eventually(b, "the end of podman's services", noService)
	benchMemory(b, idleTasks, driver, logs)

	var driven, polled time.Duration // processor time of one minute
	b.Run("idle/with=driver", func(b *testing.B) { driven = benchDriver(b, driver, logs) })
	b.Run("idle/with=polling", func(b *testing.B) { polled = benchPolling(b) })
	b.Run("exit", func(b *testing.B) { benchExit(b, j, allocs) })
	if driven > 0 && polled > 0 { // both were selected
		must.Less(b, polled/100, driven, must.Sprint("running tasks cost more than a hundredth of what polling them would"))
	}
}

// age is how long a process has run.
func age(b *testing.B, pid int) time.Duration {
	b.Helper()
	return time.Duration(number(b, command(b, "ps", "--format", "etimes=", "--pid", fmt.Sprint(pid)))) * time.Second
}

func benchMemory(b *testing.B, tasks, driver, logs int) {
	for name, pid := range map[string]int{"driver": driver, "log-process": logs} {
		b.Run(fmt.Sprintf("memory/tasks=%d/of=%s", tasks, name), func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(usageOf(b, pid).memory)*1024, "anon-B")
			b.ReportMetric(float64(proportional(b, pid))*1024, "pss-B")
		})
	}
}

// proportional is the process' memory in KiB, with its part of what is shared (Pss of proc_pid_smaps(5)).
func proportional(b *testing.B, pid int) int {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must.NoError(b, err)
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); fields[0] == "Pss:" {
			return number(b, fields[1])
		}
	}
	b.Fatalf("smaps_rollup of process %d has no Pss", pid)
	return 0
}

// benchDriver returns the processor time of driver and log process in a minute in which podman must be left alone.
func benchDriver(b *testing.B, driver, logs int) time.Duration {
	quiet := time.Now()
	starts := serviceStarts(b)
	driverBefore, logsBefore := processorTime(b, driver), processorTime(b, logs)
	<-time.After(quietTime) // what is measured is that nothing happens
	driverUsed, logsUsed := processorTime(b, driver)-driverBefore, processorTime(b, logs)-logsBefore
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(driverUsed.Seconds(), "driver-cpu-s/min")
	b.ReportMetric(logsUsed.Seconds(), "logs-cpu-s/min")

	must.NoError(b, noService())
	must.Eq(b, starts, serviceStarts(b), must.Sprint("a podman service was started"))
	for _, user := range []hostUser{root, teamA, teamB, teamC, teamD} {
		must.Zero(b, requests(b, user, quiet), must.Sprint("requests to podman of "+user.name))
	}
	return driverUsed + logsUsed
}

// serviceStarts tells for each user whose manager runs when podman's service was started.
func serviceStarts(b *testing.B) map[string]string {
	b.Helper()
	show := []string{"show", "--property=InactiveExitTimestampMonotonic", "--value", "podman.service"}
	starts := map[string]string{root.name: command(b, "systemctl", show...)}
	for _, user := range []hostUser{teamA, teamB, teamC, teamD} {
		if user.managerRuns() {
			starts[user.name] = user.systemctl(b, show...)
		}
	}
	return starts
}

// benchPolling polls for a minute, and returns the processor time of podman's service and of the poller. A podman that cannot
// keep up answers fewer requests than are due, and so costs less than it should.
func benchPolling(b *testing.B) time.Duration {
	p := newPoller(fmt.Sprintf("/run/user/%d/podman/podman.sock", teamA.uid))
	must.NoError(b, p.get(b.Context(), pingPath)) // starts the service
	service := cpuTimeOf(b, teamA.systemctl(b, "show", "--property=ControlGroup", "--value", "podman.service"))
	ids := strings.Fields(teamA.podman(b, "ps", "--quiet", "--no-trunc"))
	must.Len(b, idleTasks, ids)

	serviceBefore, ownBefore := service(), processorTime(b, os.Getpid())
	ctx, cancel := context.WithTimeout(b.Context(), quietTime)
	defer cancel()
	answers, err := p.poll(ctx, ids)
	must.NoError(b, err)
	serviceUsed, ownUsed := service()-serviceBefore, processorTime(b, os.Getpid())-ownBefore

	must.Positive(b, serviceUsed)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(serviceUsed.Seconds(), "podman-cpu-s/min")
	b.ReportMetric(ownUsed.Seconds(), "poller-cpu-s/min")
	b.ReportMetric(float64(answers), "requests/min")
	return serviceUsed + ownUsed
}

// cpuTimeOf reads the processor time of a cgroup.
func cpuTimeOf(b *testing.B, path string) func() time.Duration {
	b.Helper()
	h, err := cgroupv2.Mounted()
	must.NoError(b, err)
	reader, err := h.Open(path)
	must.NoError(b, err)
	b.Cleanup(func() { must.NoError(b, reader.Close()) })
	return func() time.Duration {
		var stats cgroupv2.Stats
		must.NoError(b, reader.Read(&stats))
		return stats.CPUTotal
	}
}

// benchExit measures the time from the end of a task's process to Nomad's Terminated event.
func benchExit(b *testing.B, j *job, allocs []*api.AllocationListStub) {
	pids := map[string]int{} // of the containers' first processes
	for line := range strings.Lines(teamA.podman(b, "ps", "--format", "{{.Names}} {{.Pid}}")) {
		fields := strings.Fields(line)
		pids[fields[0]] = number(b, fields[1])
	}
	var took []time.Duration
	for _, alloc := range allocs {
		pid := pids["idle-"+alloc.ID]
		must.Positive(b, pid)
		killed := time.Now()
		must.NoError(b, syscall.Kill(pid, syscall.SIGKILL))
		var index uint64
		var end *api.TaskEvent
		for deadline := killed.Add(patience); end == nil && time.Now().Before(deadline); {
			info, meta, err := nomad.Allocations().Info(alloc.ID, &api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second})
			must.NoError(b, err)
			index = meta.LastIndex
			for _, event := range info.TaskStates["idle"].Events {
				if event.Type == api.TaskTerminated {
					end = event
				}
			}
		}
		must.NotNil(b, end, must.Sprintf("the end of process %d was not noticed", pid))
		took = append(took, time.Unix(0, end.Time).Sub(killed))
	}
	slices.Sort(took)
	percentile := func(p int) float64 { return float64(took[(p*len(took)+99)/100-1].Nanoseconds()) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(percentile(50), "p50-ns")
	b.ReportMetric(percentile(99), "p99-ns")
}

// BenchmarkSample measures the processor time of a stats sample, with as many cgroups as there would be tasks.
func BenchmarkSample(b *testing.B) {
	describeMachine()
	h, err := cgroupv2.Mounted()
	must.NoError(b, err)
	cost := map[int]float64{} // of the driver's samples, by the number of cgroups
	for _, cgroups := range []int{1, 50, 500} {
		paths := makeCgroups(b, h, cgroups)
		b.Run(fmt.Sprintf("cgroups=%d/with=driver", cgroups), func(b *testing.B) {
			var samples []func() error
			for _, path := range paths {
				reader, err := h.Open(path)
				must.NoError(b, err)
				defer func() { must.NoError(b, reader.Close()) }()
				var stats cgroupv2.Stats
				samples = append(samples, func() error { return reader.Read(&stats) })
			}
			cost[cgroups] = sample(b, 10000, samples)
		})
		b.Run(fmt.Sprintf("cgroups=%d/with=containerd", cgroups), func(b *testing.B) {
			var samples []func() error
			for _, path := range paths {
				manager, err := cgroup2.Load(path)
				must.NoError(b, err)
				samples = append(samples, func() error {
					_, err := manager.Stat()
					return err
				})
			}
			sample(b, 1000, samples)
		})
	}
	if len(cost) == 3 { // all were selected
		// Emulated processors are measured with some noise, and the first cgroups fit into their caches.
		must.LessEq(b, 2*cost[50], cost[500], must.Sprint("the cost of samples grows faster than the number of cgroups"))
	}
}

// sample takes that many samples, from one cgroup after the other, and reports the processor time of one. It is that of
// the best of ten batches: what the kernel does meanwhile for others is in all of them.
func sample(b *testing.B, count int, samples []func() error) float64 {
	b.Helper()
	best := time.Duration(math.MaxInt64)
	for batch := range 10 {
		before := processorTime(b, os.Getpid())
		for i := range count / 10 {
			if err := samples[(batch*count/10+i)%len(samples)](); err != nil {
				b.Fatal(err)
			}
		}
		best = min(best, processorTime(b, os.Getpid())-before)
	}
	cost := float64(best.Nanoseconds()) / float64(count/10)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(cost, "cpu-ns/sample")
	return cost
}

// makeCgroups makes cgroups with a process in each, until the benchmark ends.
func makeCgroups(b *testing.B, h cgroupv2.Hierarchy, count int) []string {
	b.Helper()
	parent := fmt.Sprintf("/bench-%d.slice", count)
	dir := filepath.Join(h.Root, parent)
	must.NoError(b, os.Mkdir(dir, 0o755))
	b.Cleanup(func() { must.NoError(b, os.Remove(dir)) })
	must.NoError(b, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+cpu +memory +pids"), 0o644))
	var paths []string
	for i := range count {
		path := filepath.Join(parent, fmt.Sprintf("task-%d.scope", i))
		sleepIn(b, filepath.Join(h.Root, path))
		paths = append(paths, path)
	}
	return paths
}

// sleepIn makes a cgroup with a process.
func sleepIn(b *testing.B, dir string) {
	b.Helper()
	must.NoError(b, os.Mkdir(dir, 0o755))
	b.Cleanup(func() { must.NoError(b, os.Remove(dir)) })
	cgroup, err := os.Open(dir)
	must.NoError(b, err)
	defer func() { must.NoError(b, cgroup.Close()) }()
	process := exec.Command("sleep", "1d")
	process.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	must.NoError(b, process.Start())
	b.Cleanup(func() {
		must.NoError(b, process.Process.Kill())
		_ = process.Wait() // killed
	})
}

// processorTime is what a process has used, with all its threads: the clock of clock_getcpuclockid(3).
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	var used unix.Timespec
	must.NoError(t, unix.ClockGettime(int32(^pid<<3|2), &used)) // 2: CPUCLOCK_SCHED of Linux' posix-timers.h
	return time.Duration(used.Nano())
}
