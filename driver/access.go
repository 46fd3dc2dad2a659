package driver

import (
	"context"
	"errors"
	"fmt"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/rootless"
)

// place is where a task runs or is to run.
type place struct {
	socket string // name of the endpoint
	// user is the host user. Unknown where that is a path on which nobody listens yet.
	user rootless.User
	// calledBy is the name by which the job calls the host user. Empty: the task is on the socket.
	calledBy string
}

// mayUse refuses a place to the tasks of a Nomad namespace, by the configuration in force and in whatever state the
// endpoints are. It is asked before a task is started, also again, and before a command or a signal goes to one, but never
// before one is stopped, removed or recovered. The socket blocks are those whose limits hold for the task there; a zero one
// stands for the plugin's.
func (n *node) mayUse(namespace string, at place) ([]config.Socket, error) {
	if at.calledBy != "" {
		return n.mayName(namespace, at.calledBy, at.user)
	}
	if endpoint, found := n.registry.Endpoint(at.socket); found && (at.user == rootless.Unknown || at.user.UID == endpoint.User().UID) {
		block := n.block(at.socket)
		if !block.OpenTo(namespace) {
			return nil, fmt.Errorf("%q is not open to the Nomad namespace %q (plugin option socket.namespaces)", at.socket, namespace)
		}
		return []config.Socket{block}, nil
	}
	// The block has another name now, or another user, or is gone.
	if theirs, doubtful, err := n.blocksOf(at.user, at.user.Name, namespace); err == nil && len(theirs) > 0 {
		return append(theirs, doubtful...), nil
	}
	return n.mayName(namespace, at.user.Name, at.user)
}

// mayStart refuses a task that its namespace may not have where it runs, or that asks for what is not allowed there.
func (n *node) mayStart(t *task) error {
	blocks, err := n.mayUse(t.cfg.Namespace, t.place())
	if err != nil {
		return t.refusal(err)
	}
	return n.checkPrivileges(t.state.Asked, blocks)
}

// mayReach refuses commands and signals to a task whose namespace could not start it where it runs.
func (d *Driver) mayReach(t *task) error {
	if _, err := d.current().mayUse(t.cfg.Namespace, t.place()); err != nil {
		return fmt.Errorf("%w; open the host user to the namespace in the agent's configuration, or stop the task, "+
			"which runs on without commands and signals", t.refusal(err))
	}
	return nil
}

// refusal says who may not use whom.
func (t *task) refusal(why error) error {
	return fmt.Errorf("the Nomad namespace %q may not use host user %s any more: %w", t.cfg.Namespace, t.place().user, why)
}

// place is where the task runs.
func (t *task) place() place {
	at := place{socket: t.state.Socket, user: rootless.Unknown, calledBy: t.state.Asked.HostUser}
	at.user.UID = t.state.HostUID
	if t.endpoint != nil {
		at.user = t.endpoint.User()
	} else if user, err := rootless.LookupUID(t.state.HostUID); err == nil {
		at.user = user
	}
	return at
}

// tellRefused says once of a recovered task that its container was not started again, or that it runs and would be refused
// now. It waits until that is known. Before Nomad waits for a recovered task's end it takes no events of it.
func (d *Driver) tellRefused(ctx context.Context, t *task) {
	if t.awaitTaken(ctx) != nil || !t.untold.CompareAndSwap(true, false) {
		return
	}
	if t.refused != nil {
		d.say(t.cfg, "Did not start the container again, which was found ended (plugin option recover_stopped): %s", t.refused)
		return
	}
	if t.endsWithin(ctx, 0) {
		return
	}
	if err := d.current().mayStart(t); err != nil {
		d.logger.Warn("a task that runs would be refused now", "task", t.cfg.ID, "error", err)
		d.say(t.cfg, "This task would be refused now: %s. It runs on, since it was started before", err)
	}
}

// mayName refuses a host user whom a task calls by this name. Where socket blocks are the user's, one of them must be open
// to the namespace: a task cannot get around them, nor around the limits of those that are.
func (n *node) mayName(namespace, name string, user rootless.User) ([]config.Socket, error) {
	if err := n.config.Rootless.AllowsUser(user.Name, user.UID); err != nil {
		return nil, fmt.Errorf("%q is not allowed: %w", name, err)
	}
	if !n.config.Rootless.OpenTo(namespace) {
		return nil, fmt.Errorf("tasks of the Nomad namespace %q may name none (plugin option rootless.namespaces)", namespace)
	}
	blocks, doubtful, err := n.blocksOf(user, name, namespace)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		blocks = []config.Socket{{}}
	}
	return append(blocks, doubtful...), nil
}

// blocksOf are the socket blocks of a host user, whom a task calls by this name, that are open to the namespace, and those
// that are open to it and may be the user's. Where blocks are or may be the user's, and none that is theirs is open, it
// fails. The configuration decides, in whatever state the endpoints are: also a block counts whose user was not there yet
// when the agent started, and one with a path where nobody listens yet may be anybody's.
func (n *node) blocksOf(user rootless.User, name, namespace string) (theirs, doubtful []config.Socket, err error) {
	closed, why := false, ""
	for _, block := range n.config.Sockets {
		owner, err := n.ownerOf(block, user, name)
		switch open := block.OpenTo(namespace); {
		case err != nil && open:
			doubtful = append(doubtful, block)
		case err != nil:
			why = fmt.Sprintf("; socket %q might be theirs: %s", block.Name, err)
		case owner.UID != user.UID:
		case open:
			theirs = append(theirs, block)
		default:
			closed = true
		}
	}
	if len(theirs) == 0 && (closed || why != "") {
		return nil, nil, fmt.Errorf("%q is not open to the Nomad namespace %q (plugin option socket.namespaces)%s", name, namespace, why)
	}
	return theirs, doubtful, nil
}

// ownerOf is the user of a socket block. A block that calls them as a task does is theirs; an error means that nobody
// can tell yet.
func (n *node) ownerOf(block config.Socket, user rootless.User, name string) (rootless.User, error) {
	switch block.HostUser {
	case "":
		endpoint, err := n.named("socket", block.Name)
		if err != nil {
			return rootless.Unknown, err
		}
		return endpoint.Owner()
	case name, user.Name:
		return user, nil
	}
	owner, err := rootless.Lookup(block.HostUser)
	if errors.Is(err, rootless.ErrUnknownUser) {
		return rootless.Unknown, nil // so it is not this user, who is known
	}
	return owner, err
}

// block is the socket block of a name. Without blocks there is one socket, for all.
func (n *node) block(name string) config.Socket {
	for _, block := range n.config.Sockets {
		if block.Name == name {
			return block
		}
	}
	return config.Socket{}
}

// checkPrivileges refuses what a job asks for and one of the socket blocks does not allow.
func (n *node) checkPrivileges(asked config.Asked, blocks []config.Socket) error {
	for _, block := range blocks {
		if err := n.config.CheckPrivileges(asked, block); err != nil {
			return err
		}
	}
	return nil
}
