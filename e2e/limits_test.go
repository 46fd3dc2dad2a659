//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// A task that wants more than its limits does not get it, and Nomad says so.
func TestLimits(t *testing.T) {
	j := run(t, "limits")

	t.Run("a fork bomb", func(t *testing.T) {
		j.prints(t, "forks", "stopped")
		alloc := j.running(t, "forks")
		bomb := teamA.container(t, alloc, "forks")
		must.Eq(t, "20", bomb.cgroupFile(t, "pids.max"))
		must.Positive(t, bomb.cgroupValue(t, "pids.events", "max"))
		must.Between(t, 10, len(bomb.pids(t)), 20)
		must.StrContains(t, string(j.log(t, alloc, "forks", "stderr")), "can't fork")
	})

	t.Run("a memory hog", func(t *testing.T) {
		_, state := j.dead(t, "hog")
		exit := terminated(t, state)
		must.Eq(t, "true", exit.Details["oom_killed"], must.Sprint(exit.DisplayMessage))
		must.Eq(t, "137", exit.Details["exit_code"])
	})

	t.Run("a spinner", func(t *testing.T) {
		alloc := j.running(t, "spinner")
		spinner := teamA.container(t, alloc, "spinner")
		limit := cpuLimit(t, 500)
		used := func() float64 { return float64(spinner.cgroupValue(t, "cpu.stat", "usage_usec")) / 1e6 }
		from, before := time.Now(), used()
		throttled := spinner.cgroupValue(t, "cpu.stat", "nr_throttled")
		eventually(t, "some time of spinning", func() error {
			if past := time.Since(from); past < 15*time.Second {
				return fmt.Errorf("only %s", past)
			}
			return nil
		})
		after := used()
		processors := (after - before) / time.Since(from).Seconds()
		t.Logf("the spinner used %.3f processors of %.3f", processors, limit)
		must.LessEq(t, 1.1*limit, processors)
		must.GreaterEq(t, 0.5*limit, processors, must.Sprint("it did not spin"))
		must.Greater(t, throttled, spinner.cgroupValue(t, "cpu.stat", "nr_throttled"))

		eventually(t, "Nomad to see the throttling", func() error {
			usage, err := nomad.Allocations().Stats(alloc, nil)
			must.NoError(t, err)
			task := usage.Tasks["spinner"]
			if task == nil || task.ResourceUsage.CpuStats.ThrottledPeriods == 0 || task.ResourceUsage.CpuStats.ThrottledTime == 0 {
				return fmt.Errorf("its usage is %+v", task)
			}
			must.SliceContainsSubset(t, task.ResourceUsage.CpuStats.Measured, []string{"Throttled Periods", "Throttled Time"})
			return nil
		})
	})
}

// cpuLimit is how many processors the hard limit of a task's cpu (MHz) comes to.
func cpuLimit(t *testing.T, mhz int) float64 {
	t.Helper()
	node, err := readyNode()
	must.NoError(t, err)
	return float64(mhz) * float64(number(t, node.Attributes["cpu.numcores"])) / float64(number(t, node.Attributes["cpu.totalcompute"]))
}

// What the options set is in the cgroup's files.
func TestLimitOptions(t *testing.T) {
	oversubscribe(t)
	for owner, socket := range map[hostUser]string{teamA: "default", root: "rootful"} {
		t.Run(owner.name, func(t *testing.T) {
			groups := []string{"limits"}
			if owner == root {
				groups = append(groups, "cores") // TestDelegation has those of a host user
			}
			j := run(t, "limitoptions", only(groups...), option("socket", socket))
			alloc := j.running(t, "all")
			all := owner.container(t, alloc, "all")
			quota, period, _ := strings.Cut(all.cgroupFile(t, "cpu.max"), " ")
			must.Eq(t, "50000", period)
			// The runtime rounds up to a whole percent, as systemd has it.
			want := int(cpuLimit(t, 100) * 50000)
			must.Between(t, want, number(t, quota), want+500)
			must.Eq(t, map[string]string{
				"memory.max": mebibytes(32), "memory.low": mebibytes(16), "memory.swap.max": mebibytes(16), "pids.max": "50",
			}, limitsOf(t, all))
			must.StrContains(t, events(j.says(t, "all", "memory_swappiness")), "Not applied")

			j.running(t, "hard")
			hard := owner.container(t, alloc, "hard")
			must.Eq(t, map[string]string{
				"memory.max": mebibytes(48), "memory.low": mebibytes(32), "memory.swap.max": "max", "pids.max": "max",
			}, limitsOf(t, hard))
			must.StrHasPrefix(t, "max ", hard.cgroupFile(t, "cpu.max"))

			if owner == root {
				pinned(t, j, root)
			}
		})
	}
}

// Nomad 1.6 refuses memory_max = -1, which newer ones hand on to the driver.
func TestNoMemoryLimit(t *testing.T) {
	driver := startPlugin(t)
	cfg, out := taskConfig(t, trapping())
	cfg.Resources.NomadResources.Memory.MemoryMaxMB = -1
	_, _, err := driver.StartTask(cfg)
	must.NoError(t, err)
	t.Cleanup(func() {
		must.NoError(t, driver.DestroyTask(cfg.ID, true))
		out.readers.Wait()
	})
	endless := teamA.container(t, &api.Allocation{ID: cfg.AllocID}, cfg.Name)
	must.Eq(t, "max", endless.cgroupFile(t, "memory.max"))
	must.Eq(t, mebibytes(32), endless.cgroupFile(t, "memory.low"))
}

// pinned asserts that the task "cores" runs on the core that Nomad has reserved for it.
func pinned(t *testing.T, j *job, owner hostUser) {
	t.Helper()
	alloc := j.running(t, "cores")
	cores := owner.container(t, alloc, "cores")
	// Nomad's API does not tell which one; its client tells the task.
	var reserved string
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cores.State.Pid))
	must.NoError(t, err)
	for variable := range strings.SplitSeq(string(environ), "\x00") {
		if value, found := strings.CutPrefix(variable, "NOMAD_CPU_CORES="); found {
			reserved = value
		}
	}
	must.RegexMatch(t, regex(`^\d+$`), reserved)
	must.Eq(t, reserved, procStatus(t, cores.State.Pid, "Cpus_allowed_list"))
}

// limitsOf are those that bind the container's process. crun gives the scope around its cgroup more swap: memory's limit, too.
func limitsOf(t *testing.T, c container) map[string]string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.State.Pid))
	must.NoError(t, err)
	c.State.CgroupPath = strings.TrimPrefix(strings.TrimSpace(string(content)), "0::")
	limits := map[string]string{}
	for _, name := range []string{"memory.max", "memory.low", "memory.swap.max", "pids.max"} {
		limits[name] = c.cgroupFile(t, name)
	}
	return limits
}

func mebibytes(n int) string { return fmt.Sprint(n << 20) }

// oversubscribe has the scheduler heed memory_max.
func oversubscribe(t *testing.T) {
	t.Helper()
	scheduler, _, err := nomad.Operator().SchedulerGetConfiguration(nil)
	must.NoError(t, err)
	scheduler.SchedulerConfig.MemoryOversubscriptionEnabled = true
	_, _, err = nomad.Operator().SchedulerSetConfiguration(scheduler.SchedulerConfig, nil)
	must.NoError(t, err)
}
