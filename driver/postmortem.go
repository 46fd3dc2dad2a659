package driver

import (
	"os"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/postmortem"
	"nomad-driver-podman/sockets"
)

// explainEnd keeps what is known about a task that has ended badly, and says it in an event. What Nomad has asked for is
// no bad end.
func (d *Driver) explainEnd(t *task, exit *drivers.ExitResult, ended time.Time, stderr []byte) {
	if exit.Successful() || t.isStopped() && !exit.OOMKilled || d.ctx.Err() != nil { // the driver ends, and its successor looks again
		return
	}
	record := recordOf(t.cfg, t.endpoint)
	if podman := t.inspected; podman != nil {
		record.Image = postmortem.Clean(podman.ImageName)
		record.PodmanError = postmortem.Clean(podman.State.Error)
	}
	record.Container = t.state.ContainerID
	record.StartedAt, record.EndedAt = &t.state.StartedAt, ended
	if exit.ExitCode >= 0 {
		record.Exit = &postmortem.Status{Code: exit.ExitCode, OOMKilled: exit.OOMKilled}
		if exit.Signal != 0 {
			record.Exit.Signal = unix.SignalName(unix.Signal(exit.Signal))
		}
	}
	if exit.Err != nil {
		record.Error = postmortem.Clean(exit.Err.Error())
	}
	if t.cgroup != nil {
		last, earlier := t.cgroup.Looks()
		record.Cgroup = postmortem.CgroupOf(last, earlier, t.state.StartedAt, ended)
	}
	record.Stderr = postmortem.Lines(stderr)
	record.Judge()
	// Nomad's own event has the error.
	if record.Cause != postmortem.Unknown {
		d.say(t.cfg, "%s", record.Summary)
	}
	d.putRecord(record)
}

// explainFailure keeps what is known about a start that has failed. The event is Nomad's.
func (s *start) explainFailure(err error) {
	if s.driver.ctx.Err() != nil {
		return // the driver ends
	}
	record := recordOf(s.cfg, s.endpoint)
	record.Cause = postmortem.Start
	if s.step == stepImage {
		record.Cause = postmortem.Image
	}
	record.Image, record.Container, record.EndedAt = postmortem.Clean(s.conf.Image), s.id, time.Now()
	record.Error = postmortem.Clean(err.Error())
	record.Judge()
	s.driver.putRecord(record)
}

// recordOf is the beginning of a task's record. The endpoint may be nil.
func recordOf(cfg *drivers.TaskConfig, endpoint *sockets.Endpoint) *postmortem.Record {
	record := &postmortem.Record{
		AllocID: cfg.AllocID, Task: cfg.Name, Group: postmortem.Clean(cfg.TaskGroupName), Job: postmortem.Clean(cfg.JobName),
		Namespace: cfg.Namespace, Stderr: []string{},
	}
	if endpoint != nil {
		user := endpoint.User()
		record.HostUser, record.UID, record.Socket = user.Name, &user.UID, endpoint.Name()
	}
	return record
}

func (d *Driver) putRecord(record *postmortem.Record) {
	if err := d.current().postmortems.Put(record); err != nil {
		d.logger.Warn("the record of a task's end cannot be kept (plugin option state_dir)", "alloc", record.AllocID, "task", record.Task, "error", err)
	}
}

// oomMoment is how long before its end a task may have lost a process to the OOM killer, and be taken to have ended by that.
const oomMoment = 10 * time.Second

// oomKills is what is known of the processes of a task that the kernel has killed for their memory.
type oomKills struct {
	count uint64
	at    time.Time // when the count has risen last
	told  uint64    // the count that an event has told of
}

// noteOOMKills notes how many there were by now. It returns true when there are more.
func (t *task) noteOOMKills(count uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if count <= t.oom.count {
		return false
	}
	t.oom.count, t.oom.at = count, time.Now()
	return true
}

// outlived notes that a recovered task has survived the kills by now, which were told of when they happened.
func (t *task) outlived() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.oom.at, t.oom.told = time.Time{}, t.oom.count
}

func (t *task) lastOOMKill() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.oom.at
}

// looksPause is the least time between two looks at a cgroup that is at its limit all the time.
const looksPause = 100 * time.Millisecond

// looker returns what counts the task's OOM kills whenever its cgroup was at a limit, and at the end, and then has it looked
// at. It is the exit loop's, for which a look takes too long: a host user can make it take long.
func (t *task) looker(look func(*task)) func(changed *os.File) {
	var last time.Time
	return func(changed *os.File) {
		if changed != nil {
			t.cgroup.Changed(changed)
		}
		kills, _ := t.cgroup.OOMKills()
		killed := t.noteOOMKills(kills)
		if now := time.Now(); killed || now.Sub(last) >= looksPause {
			last = now
			look(t)
		}
		if killed {
			select {
			case t.killed <- struct{}{}:
			default:
			}
		}
	}
}

// lookSoon has a task's cgroup looked at. It waits for nothing.
func (d *Driver) lookSoon(t *task) {
	select {
	case d.looks <- t:
	default: // more than ever get into trouble together: this one is looked at another time
	}
}

// runLooks looks until the driver ends.
func (d *Driver) runLooks() {
	for {
		select {
		case t := <-d.looks:
			_ = t.cgroup.Look() // gone at the end, mostly
		case <-d.ctx.Done():
			return
		}
	}
}

// tellOOMKills says that a task goes on without processes that were killed for their memory: of the first, and again when
// there are twice as many.
func (d *Driver) tellOOMKills(t *task) {
	t.mu.Lock()
	kills := t.oom.count
	tell := kills > 0 && kills >= 2*t.oom.told
	if tell {
		t.oom.told = kills
	}
	t.mu.Unlock()
	if tell {
		last, earlier := t.cgroup.Looks()
		now := time.Now()
		d.say(t.cfg, "%s", postmortem.CgroupOf(last, earlier, t.state.StartedAt, now).Survived(kills))
	}
}
