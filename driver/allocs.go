package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/allocdir"
)

// closeOff keeps everybody but root from changing what Nomad opens as root in the allocation's directory, as long as the
// task is there. was is the ID of the log directory at an earlier time, else zero.
func (d *Driver) closeOff(cfg *drivers.TaskConfig, was allocdir.ID) (id allocdir.ID, release func(), err error) {
	id, removed, release, err := d.allocs.Hold(cfg.AllocDir, was)
	d.tellRemoved(cfg, removed)
	return id, release, err
}

// closeOffAgain does so for a recovered task. That is ended when somebody has put something else in the place of the
// directory of its logs meanwhile.
func (d *Driver) closeOffAgain(n *node, t *task) {
	was := t.state.LogsDir
	if boot, err := bootID(); err != nil || boot != t.state.BootID {
		was = allocdir.ID{} // devices may have other numbers
	}
	id, release, err := d.closeOff(t.cfg, was)
	if err != nil {
		d.cannotCloseOff(n, t, err)
		return
	}
	t.state.LogsDir, t.open = id, release
}

// agentStarted is called when Nomad has built the directories of a task's allocation again, as it does when the agent starts.
func (d *Driver) agentStarted(n *node, t *task) {
	removed, err := d.allocs.Restore(t.cfg.AllocDir)
	d.tellRemoved(t.cfg, removed)
	if err != nil {
		d.cannotCloseOff(n, t, err)
	}
	d.uncover(n, t.cfg.AllocDir)
}

// allocReport takes what the guard has found.
func (d *Driver) allocReport(report allocdir.Report) {
	n := d.current()
	for _, t := range d.tasks.all() {
		if t.cfg.AllocDir != report.Path || n == nil {
			continue
		}
		d.tellRemoved(t.cfg, report.Removed)
		if report.Err != nil {
			d.cannotCloseOff(n, t, report.Err)
		}
	}
}

// cannotCloseOff ends a task whose log directory was replaced: the agent would open files there as root. Where that is not
// sure the task goes on.
func (d *Driver) cannotCloseOff(n *node, t *task, err error) {
	d.logger.Error("the directories of a task's allocation were not closed to others", "task", t.cfg.ID, "error", err)
	if !errors.Is(err, allocdir.ErrReplaced) {
		return
	}
	t.setFate(fmt.Errorf("it was killed because %w, and the agent opens files there as root", allocdir.ErrReplaced))
	n.background.Go(func() {
		if t.awaitTaken(n.ctx) != nil || t.process == nil {
			return
		}
		if err := t.process.Signal(unix.SIGKILL); err != nil {
			d.logger.Error("killing a task", "task", t.cfg.ID, "error", err)
		}
	})
}

// removedShown is how many names an event has at most: they may be a host user's own words.
const removedShown = 5

// tellRemoved says what was removed from an allocation's log directory.
func (d *Driver) tellRemoved(cfg *drivers.TaskConfig, removed []string) {
	if len(removed) == 0 {
		return
	}
	shown := make([]string, 0, removedShown)
	for _, name := range removed[:min(len(removed), removedShown)] {
		shown = append(shown, fmt.Sprintf("%.64q", name))
	}
	if more := len(removed) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("%d more", more))
	}
	names := strings.Join(shown, ", ")
	d.logger.Warn("removed what somebody has put among Nomad's log files", "task", cfg.ID, "names", names)
	d.say(cfg, "Removed from alloc/logs what could have led Nomad elsewhere: %s", names)
}

// cover keeps the agent, which is about to start, from following links in the allocations of tasks that run.
func (d *Driver) cover(n *node) {
	if !n.self.IsRoot() {
		return
	}
	for _, path := range n.allocDirs() {
		if err := allocdir.Cover(path); err != nil {
			d.logger.Warn("links in an allocation's directory are not kept from being followed while the agent starts", "error", err)
		}
	}
}

// uncover ends that. A cover that stays would keep Nomad from removing the directory.
func (d *Driver) uncover(n *node, path string) {
	if !n.self.IsRoot() || path == "" {
		return
	}
	if err := allocdir.Uncover(path); err != nil {
		d.logger.Error("a mount over an allocation's directory cannot be removed; umount it before Nomad removes the directory", "error", err)
	}
}

// allocDirs are the directories of the allocations of all tasks that are noted.
func (n *node) allocDirs() []string {
	noted, _ := n.intents.all() // the reconciler tells of those that cannot be read
	var dirs []string
	for _, i := range noted {
		if i.AllocDir != "" && !slices.Contains(dirs, i.AllocDir) {
			dirs = append(dirs, i.AllocDir)
		}
	}
	return dirs
}
