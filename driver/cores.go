package driver

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
)

// Cores that a task has reserved are its own: tasks without cores keep off them. For each of those Nomad keeps a cgroup
// whose processors are the ones that nobody has reserved at the moment. The container runs elsewhere, where its podman
// puts it, and gets the processors of that cgroup: when it is created, and whenever Nomad assigns them anew.

// coresDelay gathers changes: Nomad writes the cgroups of all tasks one after the other.
const coresDelay = 50 * time.Millisecond

// sharedCgroup is Nomad's cgroup for a task without cores of its own. Empty: the task has some, or Nomad assigns no
// processors here.
func sharedCgroup(cfg *drivers.TaskConfig, h cgroupv2.Hierarchy) string {
	if cfg.Resources == nil || cfg.Resources.LinuxResources == nil || cfg.Resources.LinuxResources.CpusetCpus != "" {
		return ""
	}
	path, below := strings.CutPrefix(cfg.Resources.LinuxResources.CpusetCgroupPath, h.Root+"/")
	if !below {
		return ""
	}
	return "/" + path
}

// sharedCPUs are the processors that nobody has reserved, for a task without cores of its own. Empty: it may use all.
func sharedCPUs(cfg *drivers.TaskConfig) (string, error) {
	h, err := cgroupv2.Mounted()
	if err != nil {
		return "", nil //nolint:nilerr // on cgroup v1 podman's own limits are all there is
	}
	cgroup := sharedCgroup(cfg, h)
	if cgroup == "" {
		return "", nil
	}
	cpus, err := h.CPUs(cgroup)
	if errors.Is(err, cgroupv2.ErrGone) {
		return "", nil // an agent that is not root names a cgroup, but cannot make it
	}
	return cpus, err
}

// watchShared has shareCores look at a task when Nomad assigns processors anew. Up to Nomad 1.6 that is written to the
// task's own cgroup, from 1.7 on to the parent of all that have no cores.
func (d *Driver) watchShared(t *task) {
	h, err := cgroupv2.Mounted()
	if err != nil {
		return
	}
	cgroup := sharedCgroup(t.cfg, h)
	if cgroup == "" {
		return
	}
	_, err = d.cores.Add(h, filepath.Dir(cgroup)) // stays watched, for the other tasks in it
	if err == nil {
		t.unwatch, err = d.cores.Add(h, cgroup)
	}
	if err != nil && !errors.Is(err, cgroupv2.ErrGone) {
		d.logger.Warn("a task does not hear of cores that others reserve", "task", t.cfg.ID, "error", err)
	}
}

// shareCores keeps running tasks off cores that others come to reserve, and lets them onto those given back, until the
// driver ends.
func (d *Driver) shareCores() {
	for {
		select {
		case <-d.cores.Changes():
		case <-d.ctx.Done():
			return
		}
		select {
		case <-time.After(coresDelay):
		case <-d.ctx.Done():
			return
		}
		h, err := cgroupv2.Mounted()
		if err != nil {
			continue
		}
		for _, t := range d.tasks.all() {
			if err := t.shareCores(h); err != nil && !errors.Is(err, cgroupv2.ErrGone) {
				d.logger.Warn("a task cannot be kept off the cores that others have reserved", "task", t.cfg.ID, "error", err)
			}
		}
	}
}

// shareCores gives the container the processors of Nomad's cgroup. systemd, which has made the container's, leaves them
// there unless somebody sets a property of that unit. The error is ErrGone when the container has ended, or when the cpuset
// controller is not delegated to its host user.
func (t *task) shareCores(h cgroupv2.Hierarchy) error {
	cgroup := sharedCgroup(t.cfg, h)
	select {
	case <-t.taken:
	default:
		return nil // it is looked at when it is taken
	}
	if cgroup == "" || t.process == nil {
		return nil
	}
	cpus, err := h.CPUs(cgroup)
	if err != nil || cpus == "" {
		return err
	}
	if err := h.SetCPUs(t.state.Cgroup, cpus); err != nil {
		return err
	}
	// crun puts the processes into a cgroup below, to which it gives the same limits at the start.
	if err := h.SetCPUs(t.state.Cgroup+"/container", cpus); err != nil && !errors.Is(err, cgroupv2.ErrGone) {
		return err
	}
	return nil
}
