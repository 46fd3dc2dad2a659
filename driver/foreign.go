package driver

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/config"
)

// foreignVersion is the version of the handles of HashiCorp's driver, whose tasks this driver takes over.
const foreignVersion = 1

// foreignState is what that driver (version 0.6) keeps of a task.
type foreignState struct {
	TaskConfig struct {
		Socket     string   `codec:"socket"`
		Privileged bool     `codec:"privileged"`
		CapAdd     []string `codec:"cap_add"`
	}
	ContainerID string
	StartedAt   time.Time
	Net         *drivers.DriverNetwork
}

// adopt makes a task of a handle of HashiCorp's driver. Such a container's log stays with its conmon, which writes it
// to Nomad's FIFO itself; its processes are not in the handle and have to be asked for.
func (n *node) adopt(handle *drivers.TaskHandle, t *task) error {
	var foreign foreignState
	if err := handle.GetDriverState(&foreign); err != nil {
		return fmt.Errorf("decoding the handle of another driver: %w", err)
	}
	endpoint, err := n.named("socket", cmp.Or(foreign.TaskConfig.Socket, n.config.DefaultName()))
	if err != nil {
		return err
	}
	t.state = taskState{
		ContainerID: foreign.ContainerID,
		HostUID:     endpoint.User().UID,
		Socket:      endpoint.Name(),
		StartedAt:   foreign.StartedAt,
		Network:     foreign.Net,
		Asked:       config.Asked{Privileged: foreign.TaskConfig.Privileged, CapAdd: foreign.TaskConfig.CapAdd},
	}
	return nil
}
