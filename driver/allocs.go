package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/allocdir"
)

// closeOff keeps everybody but root from changing what Nomad opens as root in the allocation's directory, until letGo is
// called. was is the ID of the log directory at an earlier time, else zero.
func (d *Driver) closeOff(cfg *drivers.TaskConfig, was allocdir.ID) (id allocdir.ID, letGo func(), err error) {
	id, removed, letGo, err := d.allocs.Hold(cfg.AllocDir, was)
	d.tellRemoved(cfg, removed)
	if errors.Is(err, allocdir.ErrReplaced) {
		d.allocReport(allocdir.Report{Path: cfg.AllocDir, Err: err}) // the allocation's other tasks have the same logs
	}
	return id, letGo, err
}

// closeOffAgain does so for a recovered task. When somebody has put something else in the place of the directory of its logs
// meanwhile, the task has to end, and replaced is true.
func (d *Driver) closeOffAgain(t *task) (replaced bool) {
	was := t.state.LogsDir
	if boot, err := bootID(); err != nil || boot != t.state.BootID {
		was = allocdir.ID{} // devices may have other numbers
	}
	id, letGo, err := d.closeOff(t.cfg, was)
	if err != nil {
		d.logger.Error("the directories of a recovered task's allocation were not closed to others", "task", t.cfg.ID, "error", err)
		return errors.Is(err, allocdir.ErrReplaced)
	}
	t.state.LogsDir, t.letGoAlloc = id, letGo
	return false
}

// allocBuilt is called when Nomad has built the directories of a recovered task's allocation again, as it does when the agent
// starts, and thereby has opened them to everybody.
func (d *Driver) allocBuilt(n *node, t *task) {
	removed, err := d.allocs.Restore(t.cfg.AllocDir)
	if removed != nil || err != nil {
		d.allocReport(allocdir.Report{Path: t.cfg.AllocDir, Removed: removed, Err: err})
	}
	d.uncover(n, t.cfg.AllocDir)
}

// takeReport is the guard's, which has other allocations to close: an event that Nomad is slow to take takes seconds.
func (d *Driver) takeReport(report allocdir.Report) {
	if n := d.current(); n != nil { // else there are no tasks
		n.background.Go(func() { d.allocReport(report) })
	}
}

// allocReport tells tasks what was found when their allocation was closed off again.
func (d *Driver) allocReport(report allocdir.Report) {
	if report.Path == "" {
		d.logger.Error("nobody hears any more of directories of allocations that are opened to others; restart the agent", "error", report.Err)
		return
	}
	for _, t := range d.tasks.all() {
		if t.cfg.AllocDir != report.Path {
			continue
		}
		d.tellRemoved(t.cfg, report.Removed)
		if report.Err != nil {
			d.logger.Error("the directories of a task's allocation were not closed to others", "task", t.cfg.ID, "error", report.Err)
		}
		if errors.Is(report.Err, allocdir.ErrReplaced) {
			d.endReplaced(t)
		}
	}
}

// endReplaced ends a task whose log directory was replaced: what it has printed is not where people look for it.
func (d *Driver) endReplaced(t *task) {
	t.setFate(fmt.Errorf("it was killed because %w, and the agent opens files there as root", allocdir.ErrReplaced))
	n := d.current()
	n.background.Go(func() {
		if err := t.awaitTaken(n.ctx); err != nil || t.process == nil {
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

// buildTime is how long an agent that starts may take to build the directories of an allocation in which no task runs: when
// it does is not told. Longer than that none is covered, since what is covered can neither be removed nor moved.
const buildTime = 30 * time.Second

// expectBuild is called when an agent starts. It keeps it from following links in the allocations that it is about to build
// again, and closes off those in which no task runs just then.
func (d *Driver) expectBuild(n *node) {
	if !n.self.IsRoot() {
		return
	}
	notes, err := n.allocs.all()
	if err != nil {
		d.logger.Error("a note of an allocation cannot be read or removed", "error", err)
	}
	boot, err := bootID()
	if err != nil {
		d.logger.Error("reading the boot ID", "error", err)
	}
	var letGo []func()
	for _, note := range notes {
		if err := allocdir.Cover(note.Path); err != nil {
			d.logger.Warn("links in an allocation's directory are not kept from being followed while the agent starts", "error", err)
		}
		was := note.Logs
		if note.BootID != boot {
			was = allocdir.ID{} // devices may have other numbers
		}
		_, removed, release, err := d.allocs.Hold(note.Path, was)
		if removed != nil || err != nil {
			d.logger.Warn("what the agent will open was not as it was left", "allocation", note.Path, "removed", len(removed), "error", err)
		}
		if errors.Is(err, allocdir.ErrReplaced) {
			_, _, release, err = d.allocs.Hold(note.Path, allocdir.ID{}) // what is there now is opened, too
		}
		if err == nil {
			letGo = append(letGo, release)
		}
	}
	if notes == nil {
		return
	}
	n.background.Go(func() {
		select {
		case <-time.After(buildTime):
		case <-n.ctx.Done():
		}
		for _, note := range notes {
			d.uncoverUnused(n, note.Path)
		}
		for _, release := range letGo {
			release()
		}
	})
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

// uncoverUnused does so when no task runs in the allocation that Nomad may not have built again yet.
func (d *Driver) uncoverUnused(n *node, path string) {
	if !slices.Contains(n.allocDirs(), path) {
		d.uncover(n, path)
	}
}

// allocDirs are the directories of the allocations of all tasks that may run. Without root nobody has to be kept from any.
func (n *node) allocDirs() []string {
	if !n.self.IsRoot() {
		return nil
	}
	noted, _ := n.intents.all() // the reconciler tells of those that cannot be read
	var dirs []string
	for _, i := range noted {
		if i.AllocDir != "" && !i.abandoned() && !slices.Contains(dirs, i.AllocDir) {
			dirs = append(dirs, i.AllocDir)
		}
	}
	return dirs
}
