package driver

import (
	"errors"
	"fmt"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// RecoverTask takes up a task that an earlier process of this driver has started. The handle is enough for that:
// podman is not asked, whose user may not even be up yet.
func (d *Driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("recovering a task: Nomad gave no handle")
	}
	if _, known := d.tasks.get(handle.Config.ID); known {
		return nil
	}
	node := d.current()
	if node == nil {
		return errNotConfigured
	}
	if handle.Version != handleVersion {
		return fmt.Errorf("recovering task %s: its handle has version %d, this driver knows %d", handle.Config.ID, handle.Version, handleVersion)
	}
	recovered := &task{cfg: handle.Config}
	if err := handle.GetDriverState(&recovered.state); err != nil {
		return fmt.Errorf("recovering task %s: decoding its handle: %w", handle.Config.ID, err)
	}
	endpoint, err := node.endpointOf(recovered.state)
	if err != nil {
		return fmt.Errorf("recovering task %s: %w", handle.Config.ID, err)
	}
	recovered.client = endpoint.Client()
	if err := d.resume(recovered); err != nil {
		return errors.Join(fmt.Errorf("recovering task %s: %w", handle.Config.ID, err), recovered.release())
	}
	d.tasks.put(handle.Config.ID, recovered)
	return nil
}

// resume watches the processes of the handle again. What has ended meanwhile is left to WaitTask.
func (d *Driver) resume(t *task) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	if boot != t.state.BootID || t.state.Process.PID == 0 {
		return nil
	}
	if t.process, err = d.exits.Watch(t.state.Process); err != nil {
		return ignoreGone(err)
	}
	if t.state.Conmon.PID != 0 {
		if t.conmon, err = d.exits.Watch(t.state.Conmon); ignoreGone(err) != nil {
			return err
		}
	}
	return t.openCgroup()
}

// endpointOf finds the endpoint of a recovered task: by its host user, so that a socket block may be renamed, and by
// name where a socket block has only a path.
func (n *node) endpointOf(state taskState) (*sockets.Endpoint, error) {
	if endpoint, found := n.registry.Endpoint(state.Socket); found && endpoint.User().UID == state.HostUID {
		return endpoint, nil
	}
	user, err := rootless.LookupUID(state.HostUID)
	if err != nil {
		return nil, err
	}
	return n.registry.ForUser(user), nil
}
