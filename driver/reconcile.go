package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// reconcileTimeout bounds the removal of what is left of one task.
const reconcileTimeout = 2 * time.Minute

// What could not be removed is tried again after firstRetry, then after twice as long each time, up to lastRetry.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
)

// reconciler removes, as long as the node's configuration holds, what no task owns: at its start, whenever a task has
// been destroyed, and all that looks like nobody's once Nomad has had the time to take its tasks up again.
func (d *Driver) reconciler(n *node) {
	grace := time.After(n.config.GC.Dangling.Grace)
	over := false // the grace
	retry := firstRetry
	for {
		var again <-chan time.Time
		if d.reconcile(n.ctx, n, over) {
			retry = firstRetry
		} else {
			again = time.After(retry)
			retry = min(2*retry, lastRetry)
		}
		select {
		case <-grace:
			over = true
			for _, path := range n.allocDirs() {
				d.uncover(n, path) // the agent has long started
			}
			if err := n.registry.ReleaseUnused(); err != nil {
				d.logger.Error("finding what was started for host users", "error", err)
			}
		case <-n.destroyed:
		case <-again:
		case <-n.ctx.Done():
			return
		}
	}
}

// reconcile compares what the driver has noted, and the containers with this node's label, with the tasks it knows,
// and removes what is nobody's. Before all tasks may be known these are only the abandoned. It returns false when
// something could not be removed.
func (d *Driver) reconcile(ctx context.Context, n *node, known bool) (done bool) {
	dangling := n.config.GC.Dangling
	if !dangling.Enabled {
		return true
	}
	done = true
	noted, err := n.intents.all()
	if err != nil {
		d.logger.Error("a note of what was begun cannot be read; remove the file when nothing of its task is left", "error", err)
	}
	silent := map[uint32]bool{} // host users whose podman keeps everybody waiting
	for _, left := range noted {
		if n.nodeID() == "" {
			n.learnID(left.NodeID)
		}
		if silent[left.HostUID] || dangling.Recent(left.Made) || !known && !left.abandoned() || !d.claims.try(left.Container) {
			continue
		}
		d.logger.Info("what is left of a task that Nomad does not know", "task", left.TaskID, "container", left.Container, "removing", !dangling.DryRun)
		if !dangling.DryRun {
			if err := d.clear(ctx, n, left); err != nil {
				done = false
				silent[left.HostUID] = errors.Is(err, context.DeadlineExceeded)
				d.logger.Error("something of a task is left", "task", left.TaskID, "error", err)
			}
		}
		d.claims.release(left.Container)
	}
	if !known || time.Since(n.strays) < dangling.Grace {
		return done // not at every end of a task: that would be a request to every podman
	}
	n.strays = time.Now()
	if _, err := n.allocs.all(); err != nil { // forgets what Nomad has removed
		d.logger.Error("a note of an allocation cannot be read or removed", "error", err)
	}
	for _, endpoint := range n.registry.Active() {
		if err := d.removeStrays(ctx, n, endpoint); err != nil {
			done = false
			d.logger.Error("looking for containers that no task owns", "socket", endpoint.Name(), "error", err)
		}
	}
	return done
}

// clear removes all that an intent may stand for, and then the intent.
func (d *Driver) clear(ctx context.Context, n *node, left intent) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	defer func() { d.uncoverUnused(n, left.AllocDir) }()
	endpoint, err := n.endpointOf(left.HostUID, left.Socket)
	if err != nil {
		return err
	}
	defer endpoint.Hold()()
	client, err := endpoint.Activate(ctx)
	if err != nil {
		return err
	}
	found, err := findOwned(ctx, client, left.Container, left.AllocID, left.TaskName)
	if found != nil {
		err = client.Remove(ctx, found.ID, true)
	}
	if n.self.IsRoot() {
		err = errors.Join(err, rootless.ClearStage(endpoint.User(), left.stage()))
	}
	if err = errors.Join(err, d.clearLog(ctx, n, left)); err != nil {
		return err
	}
	return n.intents.remove(left.Container)
}

// clearLog has the log process forget the task.
func (d *Driver) clearLog(ctx context.Context, n *node, left intent) error {
	if !left.Logged {
		return nil
	}
	if err := n.ensureLogs(ctx); err != nil {
		return err
	}
	// Nobody reads the log of a task that nobody knows: what is lost of it is no failure.
	if _, err := n.logs.Finish(ctx, left.TaskID); err != nil {
		d.logger.Info("a part of a task's log was not delivered", "task", left.TaskID, "error", err)
	}
	return nil
}

// findOwned finds the container of a name, nil when there is none. Labels must say that it is the task's.
func findOwned(ctx context.Context, client *sockets.Client, name, allocID, taskName string) (*sockets.Container, error) {
	found, err := client.Inspect(ctx, name)
	if errors.Is(err, sockets.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// HashiCorp's driver always sets the first of the labels only; the task is in the name.
	task, labelled := found.Config.Labels[spec.LabelTaskName]
	if found.Config.Labels[spec.LabelAllocID] != allocID || labelled && task != taskName {
		return nil, fmt.Errorf("the host user has a container called %s that is not this task's; remove or rename it", name)
	}
	return found, nil
}

// removeStrays removes an endpoint's containers that carry this node's ID and that no task owns: what is left when the
// state directory was lost.
func (d *Driver) removeStrays(ctx context.Context, n *node, endpoint *sockets.Endpoint) error {
	gc, id := n.config.GC, n.nodeID()
	if id == "" {
		return nil // no task yet, no label
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	containers, err := endpoint.Client().List(ctx, map[string]string{spec.LabelNodeID: id})
	if err != nil {
		return err
	}
	var errs []error
	for _, container := range containers {
		// Labels alone are not enough: an image that somebody has made of a task's container passes them on.
		name := spec.ContainerNameOf(container.Labels[spec.LabelTaskName], container.Labels[spec.LabelAllocID])
		kept := !gc.Container && container.State != "running"
		if kept || !slices.Contains(container.Names, name) || gc.Dangling.Recent(container.Created) || !d.claims.try(name) {
			continue
		}
		d.logger.Info("a container has no task", "container", name, "socket", endpoint.Name(), "removing", !gc.Dangling.DryRun)
		if !gc.Dangling.DryRun {
			errs = append(errs, endpoint.Client().Remove(ctx, container.ID, true))
		}
		d.claims.release(name)
	}
	return errors.Join(errs...)
}
