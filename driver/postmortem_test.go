package driver

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/sockets"
)

// fakeCgroup is a cgroup whose files hold these texts, and sets what they hold.
func fakeCgroup(t *testing.T, files map[string]string) (r *cgroupv2.Reader, set func(name, text string)) {
	t.Helper()
	root := t.TempDir()
	set = func(name, text string) {
		t.Helper()
		must.NoError(t, os.WriteFile(filepath.Join(root, "task", name), []byte(text), 0o600))
	}
	must.NoError(t, os.Mkdir(filepath.Join(root, "task"), 0o700))
	set("cpu.stat", "usage_usec 1000\n")
	for name, text := range files {
		set(name, text)
	}
	r, err := cgroupv2.Hierarchy{Root: root}.Open("/task")
	must.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() }) // an error says that it is closed already
	return r, set
}

func TestOOMKilled(t *testing.T) {
	ended := time.Now()
	for name, tc := range map[string]struct {
		kills  string        // what memory.events says; "" there is none
		before time.Duration // when the last kill was noted, 0 not yet
		code   int
		podman bool // says so
		want   bool
	}{
		"killed":                               {kills: "1", code: 137, want: true},
		"killed just before":                   {kills: "1", before: time.Second, code: 137, want: true},
		"a child was killed long ago":          {kills: "1", before: time.Hour, code: 137},
		"the same, and podman takes it for it": {kills: "1", before: time.Hour, code: 137, podman: true},
		"ended with its child":                 {kills: "2", before: time.Second, code: 1, podman: true, want: true},
		"another kill":                         {kills: "0", code: 137},
		"only podman knows":                    {code: 137, podman: true, want: true},
		"done after a child was killed":        {kills: "1", before: time.Second, podman: true},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			if tc.kills != "" {
				files["memory.events"] = "oom_kill " + tc.kills + "\n"
			}
			killed := &task{cfg: &drivers.TaskConfig{}}
			killed.cgroup, _ = fakeCgroup(t, files)
			if tc.before != 0 {
				kills, err := killed.cgroup.OOMKills()
				must.NoError(t, err)
				must.True(t, killed.noteOOMKills(kills))
				killed.oom.at = ended.Add(-tc.before)
			}
			exit := &drivers.ExitResult{ExitCode: tc.code, OOMKilled: tc.podman}
			must.Eq(t, tc.want, (&Driver{logger: hclog.NewNullLogger()}).oomKilled(killed, exit, ended))
		})
	}
}

// A cgroup may be gone when the driver hears that it has changed.
func TestOOMKilledUnseen(t *testing.T) {
	for name, changed := range map[string]bool{"at its limit": true, "another task was": false} {
		t.Run(name, func(t *testing.T) {
			killed := &task{cfg: &drivers.TaskConfig{}, killed: make(chan struct{}, 1), state: taskState{ContainerID: "of no container"}}
			var set func(name, text string)
			killed.cgroup, set = fakeCgroup(t, map[string]string{"memory.events": "max 0\noom_kill 0\n", "../memory.events": "oom_kill 1\n"})
			look := killed.looker(func(*task) {})
			look(nil)

			set("../memory.events", "oom_kill 2\n")
			events := killed.cgroup.Events()[0]
			must.NoError(t, events.Close()) // like the file of a removed cgroup, it cannot be read any more
			if changed {
				look(events)
			}
			look(nil) // the end
			exit := &drivers.ExitResult{ExitCode: 137}
			must.Eq(t, changed, (&Driver{logger: hclog.NewNullLogger()}).oomKilled(killed, exit, time.Now()))
		})
	}
}

// driverWithEvents is a driver whose task events are read.
func driverWithEvents(t *testing.T) (*Driver, <-chan *drivers.TaskEvent) {
	t.Helper()
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	driver.node = testNode(t, config.Plugin{})
	events, err := driver.TaskEvents(t.Context())
	must.NoError(t, err)
	return driver, events
}

func nextEvent(t *testing.T, events <-chan *drivers.TaskEvent) string {
	t.Helper()
	select {
	case event := <-events:
		return event.Message
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return ""
	}
}

// noEvent says another thing, which then is the next event.
func noEvent(t *testing.T, driver *Driver, events <-chan *drivers.TaskEvent) {
	t.Helper()
	go driver.say(&drivers.TaskConfig{}, "another")
	must.Eq(t, "another", nextEvent(t, events))
}

func TestExplainEnd(t *testing.T) {
	driver, events := driverWithEvents(t)
	started := time.Now().Add(-time.Minute)
	ended := started.Add(30 * time.Second)
	for name, tc := range map[string]struct {
		exit    drivers.ExitResult
		stopped bool
		podman  *sockets.Container
		event   string
		summary string
		ended   time.Time
	}{
		"success":              {},
		"stopped":              {exit: drivers.ExitResult{ExitCode: 143, Signal: 15}, stopped: true},
		"stopped, but too big": {exit: drivers.ExitResult{ExitCode: 137, Signal: 9, OOMKilled: true}, stopped: true, event: `The kernel killed it for its memory; last on stderr: "why"`},
		"exit code":            {exit: drivers.ExitResult{ExitCode: 3}, event: `It ended with exit code 3; last on stderr: "why"`},
		"signal":               {exit: drivers.ExitResult{ExitCode: 134, Signal: 6}, event: `It ended by signal SIGABRT (exit code 134); last on stderr: "why"`},
		// Nomad shows the error.
		"unknown": {exit: drivers.ExitResult{ExitCode: -1, Err: errors.New("nobody knows")}, summary: `nobody knows; last on stderr: "why"`},
		"unseen": {
			exit: drivers.ExitResult{ExitCode: 3}, podman: &sockets.Container{State: sockets.ContainerState{FinishedAt: started.Add(time.Second), Error: "a\x1b[1mb\n"}},
			event: `It ended with exit code 3; podman: ab; last on stderr: "why"`, ended: started.Add(time.Second),
		},
		"impossible time": {
			exit: drivers.ExitResult{ExitCode: 3}, podman: &sockets.Container{State: sockets.ContainerState{FinishedAt: started.Add(-time.Second)}},
			event: `It ended with exit code 3; last on stderr: "why"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			over := &task{cfg: &drivers.TaskConfig{AllocID: t.Name() + ".", Name: "web"}, taken: closed, stopped: tc.stopped, inspected: tc.podman, state: taskState{StartedAt: started}}
			var explaining sync.WaitGroup
			explaining.Go(func() { driver.explainEnd(over, &tc.exit, over.endedBy(ended), []byte("why\n")) })
			if tc.event != "" {
				must.Eq(t, tc.event, nextEvent(t, events))
				tc.summary = tc.event
			}
			explaining.Wait()
			noEvent(t, driver, events)
			records, err := driver.node.postmortems.Find(t.Name()+".", "")
			must.NoError(t, err)
			if tc.summary == "" {
				must.SliceEmpty(t, records)
				return
			}
			must.Len(t, 1, records)
			must.Eq(t, tc.summary, records[0].Summary)
			if tc.ended.IsZero() {
				tc.ended = ended
			}
			must.True(t, tc.ended.Equal(records[0].EndedAt))
		})
	}
}

// A task that survives the end of a process is said to, and not of each.
func TestSurvivedKills(t *testing.T) {
	driver, events := driverWithEvents(t)
	survivor := &task{cfg: &drivers.TaskConfig{}, killed: make(chan struct{}, 1)}
	var set func(name, text string)
	survivor.cgroup, set = fakeCgroup(t, map[string]string{"memory.events": "oom_kill 2\n"})
	look := survivor.looker(func(*task) {})
	look(nil)
	survivor.outlived() // as a recovered task has
	for _, tc := range []struct{ kills, event string }{
		{"3", ""},
		{"4", "The kernel has killed 4 processes of the task for its memory; the task goes on"},
		{"4", ""},
		{"7", ""},
		{"9", "The kernel has killed 9 processes of the task for its memory; the task goes on"},
	} {
		set("memory.events", "oom_kill "+tc.kills+"\n")
		look(nil)
		var telling sync.WaitGroup
		telling.Go(func() { driver.tellOOMKills(survivor) })
		if tc.event != "" {
			must.Eq(t, tc.event, nextEvent(t, events))
		}
		telling.Wait()
		noEvent(t, driver, events)
	}
	must.Eq(t, 1, len(survivor.killed))
}
