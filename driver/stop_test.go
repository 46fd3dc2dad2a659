package driver

import (
	"cmp"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]unix.Signal{"SIGINT": unix.SIGINT, "int": unix.SIGINT, "sigusr1": unix.SIGUSR1, "15": unix.SIGTERM, "SIGRTMIN+3": 37, "37": 37} {
		name, number, err := parseSignal(text)
		must.NoError(t, err)
		must.Eq(t, want, number)
		must.Eq(t, cmp.Or(unix.SignalName(want), "37"), name)
	}
	for _, text := range []string{"", "SIGNOPE", "0", "-1", "999"} {
		_, _, err := parseSignal(text)
		must.ErrorContains(t, err, "is not a signal")
	}
}

func TestUnknownTask(t *testing.T) {
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	_, err = driver.WaitTask(t.Context(), "x")
	must.ErrorIs(t, err, drivers.ErrTaskNotFound)
	_, err = driver.InspectTask("x")
	must.ErrorIs(t, err, drivers.ErrTaskNotFound)
	_, err = driver.TaskStats(t.Context(), "x", time.Second)
	must.ErrorIs(t, err, drivers.ErrTaskNotFound)
	_, err = driver.ExecTask("x", []string{"true"}, time.Second)
	must.ErrorIs(t, err, drivers.ErrTaskNotFound)
	must.ErrorIs(t, driver.StopTask("x", time.Second, ""), drivers.ErrTaskNotFound)
	must.ErrorIs(t, driver.SignalTask("x", "SIGHUP"), drivers.ErrTaskNotFound)
	must.ErrorIs(t, driver.DestroyTask("x", true), drivers.ErrTaskNotFound)
}

// A handle says enough to take a task up again.
func TestHandleKeepsTheState(t *testing.T) {
	before := task{cfg: &drivers.TaskConfig{ID: "x"}, state: taskState{ContainerID: "c", HostUID: 2001, Cgroup: "/a", BootID: "b", StartedAt: time.Now().Round(0),
		Asked: config.Asked{HostUser: "team-a", Privileged: true, CapAdd: []string{"all"}}}}
	before.state.Process.PID, before.state.Process.Start = 7, 1<<40
	handle, err := before.handle()
	must.NoError(t, err)
	var after taskState
	must.NoError(t, handle.GetDriverState(&after))
	must.True(t, before.state.StartedAt.Equal(after.StartedAt))
	after.StartedAt = before.state.StartedAt
	must.Eq(t, before.state, after)
}
