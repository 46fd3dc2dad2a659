package driver

import (
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// A process that is not the host user's gets none of the task's signals: the task does not hold it.
func TestTakeOthersProcess(t *testing.T) {
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	user := rootless.User{Name: "someone", UID: 65533, GID: 65533}
	registry, err := sockets.New([]sockets.EndpointConfig{{Name: "s", Path: "/s", User: &user}}, sockets.Options{})
	must.NoError(t, err)
	endpoint, _ := registry.Endpoint("s")

	for cgroup, says := range map[string]string{
		"":  `cgroup "" is not under user@65533.service`,
		"/": `cgroup "/" is not under user@65533.service`,
		"/user.slice/user-65533.slice/user@65533.service/x": "not in the container's",
	} {
		t.Run(cgroup, func(t *testing.T) {
			taken := &task{cfg: &drivers.TaskConfig{}, taken: closed, state: taskState{Cgroup: cgroup}}
			must.ErrorContains(t, driver.take(taken, os.Getpid(), os.Getpid(), endpoint), says)
			must.Nil(t, taken.process)
			must.Zero(t, taken.state.Process.PID)
		})
	}
}

// On a host that mounts cgroup v1, a container of root's has no cgroup of its own in the tree of cgroup v2, or there is no
// such tree. It is watched all the same, and not measured.
func TestTakeWithoutCgroup(t *testing.T) {
	if cgroupv2.CheckRootless() == nil {
		t.Skip("this host has cgroup v2")
	}
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	user := rootless.User{Name: "root"}
	registry, err := sockets.New([]sockets.EndpointConfig{{Name: "s", Path: "/s", User: &user}}, sockets.Options{})
	must.NoError(t, err)
	endpoint, _ := registry.Endpoint("s")

	taken := &task{cfg: &drivers.TaskConfig{}, taken: closed, state: taskState{Cgroup: "/machine.slice/libpod-1.scope"}}
	must.NoError(t, driver.take(taken, os.Getpid(), os.Getpid(), endpoint))
	t.Cleanup(func() { must.NoError(t, taken.release()) })
	must.Eq(t, os.Getpid(), taken.state.Process.PID)
	must.Eq(t, "", taken.state.Cgroup)
	must.Nil(t, taken.cgroup)
}
