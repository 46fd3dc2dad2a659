//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// Tasks of different host users share a processor by their cpu, because the users' slices weigh what their tasks do.
func TestWeights(t *testing.T) {
	j := run(t, "weights", only("light", "heavy"))
	light, heavy := teamA.container(t, j.running(t, "light"), "light"), teamB.container(t, j.running(t, "heavy"), "heavy")
	weighs(t, teamA, "10")
	weighs(t, teamB, "40")

	t.Run("one processor", func(t *testing.T) {
		ofLight, ofHeavy := spinTogether(t, light, heavy)
		t.Logf("the light task has used %s, the heavy one %s", ofLight, ofHeavy)
		must.Greater(t, 1.5, float64(ofHeavy)/float64(ofLight))
	})

	// They have shown what they were for, and would slow down all that follows.
	for _, pid := range slices.Concat(light.pids(t), heavy.pids(t)) {
		must.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}

	t.Run("the sum", func(t *testing.T) {
		more := run(t, "weights", only("more"), renamed("weights-more"))
		more.running(t, "more")
		weighs(t, teamA, "35")
		more.purge(t)
		weighs(t, teamA, "10")
	})

	t.Run("a new driver", func(t *testing.T) {
		command(t, "systemctl", "set-property", "--runtime", teamA.slice(), "CPUWeight=7")
		kill(t, labClient.driverProcess(t))
		weighs(t, teamA, "10")
		weighs(t, teamB, "40")
	})

	t.Run("cpu_weight = false", func(t *testing.T) {
		configureAgent(t, "no-cpu-weight")
		weighs(t, teamA, "[not set]")
		weighs(t, teamB, "[not set]")
	})
	weighs(t, teamA, "10")
	weighs(t, teamB, "40")

	j.purge(t)
	weighs(t, teamA, "[not set]")
	weighs(t, teamB, "[not set]")

	t.Run("a task that ended without a driver", func(t *testing.T) {
		command(t, "systemctl", "set-property", "--runtime", teamA.slice(), "CPUWeight=55")
		must.NoError(t, os.WriteFile(stateDir+"/weights/"+strconv.Itoa(teamA.uid), nil, 0o600))
		configureAgent(t, "gc") // which looks for such things at once
		weighs(t, teamA, "[not set]")
	})
	eventually(t, "the end of the notes", func() error {
		notes, err := os.ReadDir(stateDir + "/weights")
		if err == nil && len(notes) > 0 {
			err = fmt.Errorf("there are %v", notes)
		}
		return err
	})
}

// slice is systemd's unit of all that runs as the user.
func (u hostUser) slice() string { return fmt.Sprintf("user-%d.slice", u.uid) }

func (u hostUser) weight(t *testing.T) string {
	t.Helper()
	return command(t, "systemctl", "show", "--property=CPUWeight", "--value", u.slice())
}

// weighs waits until the user's slice has a weight, for systemd and for the kernel, whose default is 100.
func weighs(t *testing.T, u hostUser, weight string) {
	t.Helper()
	eventually(t, "CPUWeight="+weight+" of "+u.name, func() error {
		if now := u.weight(t); now != weight {
			return fmt.Errorf("it is %s", now)
		}
		kernels, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/user.slice", u.slice(), "cpu.weight"))
		if os.IsNotExist(err) {
			return nil // nothing runs as the user, or nobody has asked for a weight
		}
		if now := strings.TrimSpace(string(kernels)); err == nil && now != strings.ReplaceAll(weight, "[not set]", "100") {
			err = fmt.Errorf("the kernel's is %s", now)
		}
		return err
	})
}

// spinTogether has containers use one processor, and returns what each has used over the same time.
func spinTogether(t *testing.T, a, b container) (ofA, ofB time.Duration) {
	t.Helper()
	var first unix.CPUSet
	first.Set(0)
	for _, pid := range slices.Concat(a.pids(t), b.pids(t)) {
		must.NoError(t, unix.SchedSetaffinity(pid, &first))
	}
	used := func(c container) time.Duration {
		return time.Duration(c.cgroupValue(t, "cpu.stat", "usage_usec")) * time.Microsecond
	}
	beforeA, beforeB := used(a), used(b)
	eventually(t, "ten seconds of one processor", func() error {
		if ofA, ofB = used(a)-beforeA, used(b)-beforeB; ofA+ofB < 10*time.Second {
			return fmt.Errorf("they have used %s", ofA+ofB)
		}
		return nil
	})
	return ofA, ofB
}

// Tasks without cores keep off those that others have reserved, from their start on and while they run, and Nomad's own
// cgroups stay what Nomad makes of them.
func TestCores(t *testing.T) {
	t.Run("rootless, not delegated", func(t *testing.T) {
		j := run(t, "cores", only("shared"))
		shared := teamA.container(t, j.running(t, "shared"), "shared")
		must.StrNotContains(t, teamA.controllers(t), "cpuset")
		_, err := os.Stat(filepath.Join(shared.cgroup(), "cpuset.cpus"))
		must.ErrorIs(t, err, os.ErrNotExist)
		must.Eq(t, "0-1", shared.allowed(t))
	})
	t.Run("rootful", func(t *testing.T) { keepOffReserved(t, root, "rootful") })
	t.Run("rootless, delegated", func(t *testing.T) {
		delegateCpuset(t, teamA)
		keepOffReserved(t, teamA, "default")
	})
}

func keepOffReserved(t *testing.T, owner hostUser, socket string) {
	j := run(t, "cores", only("shared"), option("socket", socket))
	alloc := j.running(t, "shared")
	early := owner.container(t, alloc, "shared")
	must.Eq(t, "0-1", early.allowed(t))
	nomadShares(t, alloc, "0-1")

	reserving := run(t, "cores", only("reserved"), option("socket", socket), renamed("cores-reserved"))
	reserved := owner.container(t, reserving.running(t, "reserved"), "reserved")
	core := reserved.allowed(t)
	others, oneCore := map[string]string{"0": "1", "1": "0"}[core]
	must.True(t, oneCore, must.Sprintf("cores = 1 gives the processors %q", core))
	moved(t, early, others)
	nomadShares(t, alloc, others)

	lately := run(t, "cores", only("shared"), option("socket", socket), renamed("cores-late"))
	lateAlloc := lately.running(t, "shared")
	late := owner.container(t, lateAlloc, "shared")
	must.Eq(t, others, late.allowed(t))

	// systemd, which has made the cgroups, does not take the processors back.
	if owner == root {
		command(t, "systemctl", "daemon-reload")
	} else {
		owner.systemctl(t, "daemon-reload")
	}
	must.Eq(t, others, early.allowed(t))

	// What is given back while no driver runs is for all as well.
	kill(t, labClient.driverProcess(t))
	reserving.purge(t)
	moved(t, early, "0-1")
	moved(t, late, "0-1")
	nomadShares(t, alloc, "0-1")
	nomadShares(t, lateAlloc, "0-1")
}

// allowed are the processors that the container's processes may run on, as the kernel says.
func (c container) allowed(t *testing.T) string {
	t.Helper()
	return procStatus(t, c.State.Pid, "Cpus_allowed_list")
}

// moved waits until a container may use these processors and no others.
func moved(t *testing.T, c container, cpus string) {
	t.Helper()
	eventually(t, c.Name+" on the processors "+cpus, func() error {
		if now := c.allowed(t); now != cpus {
			return fmt.Errorf("it may use %s", now)
		}
		return nil
	})
}

// nomadShares asserts that Nomad's own cgroup of a task without cores is there and has these processors: below
// nomad.slice, or since Nomad 1.7 below its share.slice.
func nomadShares(t *testing.T, alloc *api.Allocation, cpus string) {
	t.Helper()
	var found []string
	for _, parent := range []string{"nomad.slice", "nomad.slice/share.slice"} {
		paths, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", parent, alloc.ID+".shared.scope"))
		must.NoError(t, err)
		found = append(found, paths...)
	}
	must.Len(t, 1, found)
	eventually(t, found[0]+" with the processors "+cpus, func() error {
		now, err := os.ReadFile(filepath.Join(found[0], "cpuset.cpus.effective"))
		if err == nil && strings.TrimSpace(string(now)) != cpus {
			err = fmt.Errorf("it has %s", now)
		}
		return err
	})
}

// controllers are those that are delegated to the user's manager.
func (u hostUser) controllers(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%d.slice/user@%d.service/cgroup.controllers", u.uid, u.uid))
	must.NoError(t, err)
	return string(content)
}

// delegateCpuset hands the cpuset controller to the running manager of a user, until the test ends.
func delegateCpuset(t *testing.T, u hostUser) {
	t.Helper()
	const dropIn = "/run/systemd/system/user@.service.d/e2e-cpuset.conf"
	apply := func() {
		command(t, "systemctl", "daemon-reload")
		// A change of any property has systemd look at what is delegated.
		command(t, "systemctl", "set-property", "--runtime", fmt.Sprintf("user@%d.service", u.uid), "CPUWeight=100")
	}
	must.NoError(t, os.MkdirAll(filepath.Dir(dropIn), 0o755))
	must.NoError(t, os.WriteFile(dropIn, []byte("[Service]\nDelegate=cpu cpuset memory pids\n"), 0o644))
	t.Cleanup(func() {
		must.NoError(t, os.Remove(dropIn))
		apply()
	})
	command(t, "systemctl", "start", fmt.Sprintf("user@%d.service", u.uid))
	apply()
	eventually(t, "the controller cpuset", func() error {
		if controllers := u.controllers(t); !strings.Contains(controllers, "cpuset") {
			return errors.New("it has only " + controllers)
		}
		return nil
	})
}
