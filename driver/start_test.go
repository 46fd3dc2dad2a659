package driver

import (
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

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
