package driver

import (
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
)

// The state that HashiCorp's driver keeps in its handles, version 1.
type recordedState struct {
	TaskConfig  *recordedConfig
	ContainerID string
	StartedAt   time.Time
	Net         *drivers.DriverNetwork
	LogStreamer bool
}

type recordedConfig struct {
	Image      string `codec:"image"`
	Socket     string `codec:"socket"`
	MemorySwap string `codec:"memory_swap"`

	Privileged bool     `codec:"privileged"`
	CapAdd     []string `codec:"cap_add"`
}

func TestForeignHandle(t *testing.T) {
	node := testNode(t, config.Plugin{Sockets: []config.Socket{
		{Name: "default", SocketPath: "/run/default.sock"}, {Name: "rootful", SocketPath: "/run/podman/podman.sock"},
	}})
	cfg := &drivers.TaskConfig{ID: "1/redis/2", Name: "redis", AllocID: "1"}
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	handle := drivers.NewTaskHandle(1)
	handle.Config = cfg
	must.NoError(t, handle.SetDriverState(&recordedState{
		TaskConfig: &recordedConfig{Image: "redis", Socket: "rootful", MemorySwap: "1g", Privileged: true, CapAdd: []string{"all"}}, ContainerID: "c0ffee", StartedAt: started, LogStreamer: true,
		Net: &drivers.DriverNetwork{IP: "10.88.0.2", PortMap: map[string]int{"redis": 6379}},
	}))

	task, err := node.decodeHandle(handle)
	must.NoError(t, err)
	must.Eq(t, "c0ffee", task.state.ContainerID)
	must.Eq(t, "rootful", task.state.Socket)
	must.Eq(t, 0, task.state.HostUID)
	must.True(t, started.Equal(task.state.StartedAt))
	must.Eq(t, "10.88.0.2", task.state.Network.IP)
	must.Eq(t, "rootful", task.endpoint.Name())
	must.Eq(t, config.Asked{Privileged: true, CapAdd: []string{"all"}}, task.state.Asked)
	// Its processes are not known yet.
	must.Zero(t, task.state.Process.PID)
	must.Eq(t, "", task.state.BootID)

	handle.Version = 3
	_, err = node.decodeHandle(handle)
	must.ErrorContains(t, err, "its handle has version 3, this driver knows 1 and 2")
}
