package books

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// driverPath is the driver's program. Nomad runs it without arguments.
const driverPath = "/opt/nomad/plugins/nomad-driver-podman"

func (l *look) drivers() []process {
	var drivers []process
	for _, p := range l.processes {
		if slices.Equal(p.args, []string{driverPath}) {
			drivers = append(drivers, p)
		}
	}
	return drivers
}

// driverProcess finds drivers beyond the one, and children of it.
func driverProcess(l *look) ([]string, error) {
	drivers := l.drivers()
	var left []string
	if len(drivers) > 1 {
		left = append(left, fmt.Sprintf("%d processes are drivers: %v", len(drivers), drivers))
	}
	if len(drivers) == 0 && len(l.tasks) > 0 {
		left = append(left, fmt.Sprintf("%d tasks run without a driver", len(l.tasks)))
	}
	for _, p := range l.processes {
		if slices.ContainsFunc(drivers, func(d process) bool { return d.pid == p.parent }) {
			left = append(left, fmt.Sprintf("%s is a child of the driver: %s", p, strings.Join(p.args, " ")))
		}
	}
	return left, nil
}

// driverDescriptors finds what the driver holds open beyond what running tasks need: a pidfd of each container's first
// process and one of its monitor, and files of its cgroup.
func driverDescriptors(l *look) ([]string, error) {
	tasks := l.ofTasks()
	var left []string
	for _, driver := range l.drivers() {
		held, err := l.host.descriptors(driver.pid)
		if err != nil {
			return left, err
		}
		pidfds := map[string]int{}
		for _, c := range tasks {
			for _, pid := range []int{c.State.Pid, c.State.ConmonPid} {
				pidfds[strconv.Itoa(pid)] = 1
			}
		}
		for _, d := range held {
			if isPidfd(d.target) {
				pid := l.host.descriptorInfo(driver.pid, d, "Pid") // -1 when the process has ended
				if pidfds[pid]--; pidfds[pid] < 0 {
					left = append(left, fmt.Sprintf("descriptor %s of %s is a pidfd of process %s, which no task needs", d.number, driver, pid))
				}
				continue
			}
			needed := isHarmless(d.target)
			if match := containerCgroup.FindStringSubmatch(d.target); match != nil {
				_, needed = tasks[match[1]]
			}
			if !needed {
				left = append(left, fmt.Sprintf("descriptor %s of %s is open on %s", d.number, driver, d.target))
			}
		}
		for _, c := range tasks {
			for _, pid := range []int{c.State.Pid, c.State.ConmonPid} {
				if pidfds[strconv.Itoa(pid)] > 0 {
					left = append(left, fmt.Sprintf("%s has no pidfd of process %d of %s", driver, pid, c))
				}
			}
		}
	}
	return left, nil
}

// intentDir is where the driver notes what it is about to make, until nothing of it is left.
const intentDir = "/var/lib/nomad-driver-podman/intents"

// intents finds the driver's notes about tasks that do not run.
func intents(l *look) ([]string, error) {
	paths, err := l.host.glob(intentDir + "/*")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, path := range paths {
		text, err := l.host.read(path)
		if isGone(err) {
			continue
		}
		var noted struct{ AllocID, TaskName string }
		if err == nil {
			err = json.Unmarshal([]byte(text), &noted)
		}
		if err != nil {
			return left, fmt.Errorf("%s: %w", path, err)
		}
		if t := (task{noted.AllocID, noted.TaskName}); !l.isRunning(t) {
			left = append(left, fmt.Sprintf("%s is kept, but %s does not run", path, t))
		}
	}
	return left, nil
}

// isPidfd tells pidfds by their names, which differ among kernels.
func isPidfd(target string) bool {
	return target == "anon_inode:[pidfd]" || strings.HasPrefix(target, "pidfd:")
}

// isHarmless tells of descriptors that a Go program holds for itself, and of those that only other checks can judge.
func isHarmless(target string) bool {
	// opencontainers/cgroups, which Nomad's libraries stand on, keeps the root of the hierarchy open.
	if target == "/dev/null" || target == "/sys/fs/cgroup" {
		return true
	}
	for _, kind := range []string{"pipe:", "socket:", "anon_inode:[event", "anon_inode:inotify", "/sys/fs/cgroup/"} {
		if strings.HasPrefix(target, kind) {
			return true
		}
	}
	return false
}
