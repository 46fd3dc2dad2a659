package sockets

import (
	"context"

	"nomad-driver-podman/rootless"
)

// Units is what systemd says about the units behind an endpoint. States are ActiveStates of org.freedesktop.systemd1(5).
type Units struct {
	// Manager is the state of the host user's user@UID.service. Empty: the user is root or not known.
	Manager string
	// Lingers tells whether that runs from boot on and outlives the user's sessions.
	Lingers bool
	// Socket is the state of podman.socket. Empty: it is not systemd that listens at the endpoint's path.
	Socket string
	// Masked wraps ErrUnitMasked, with the remedy, when podman.socket is masked. A mask of the user's own shows only
	// while the user's manager runs.
	Masked error
}

// Units asks systemd about the units behind the endpoint, and starts none of them.
func (e *Endpoint) Units(ctx context.Context) (Units, error) {
	var units Units
	user := e.User()
	if user == rootless.Unknown || user.IsRoot() && !e.managed {
		return units, nil
	}
	system, err := e.registry.connect(ctx, nil)
	if err != nil {
		return units, err
	}
	defer system.Close()
	owner := system
	if !user.IsRoot() {
		if _, units.Manager, _, err = system.UnitState(ctx, userManagerUnit(user)); err != nil {
			return units, err
		}
		units.Lingers = system.Lingers(ctx, user.UID)
	}
	switch {
	case !e.managed:
		return units, nil
	case user.IsRoot():
	case units.Manager != "active":
		units.Socket = "inactive"
		return units, nil
	default:
		if owner, err = e.registry.connect(ctx, &user); err != nil {
			return units, err
		}
		defer owner.Close()
	}
	var load string
	if load, units.Socket, _, err = owner.UnitState(ctx, socketUnit); err == nil {
		units.Masked = e.maskedError(load)
	}
	return units, err
}

// maskedError says that podman.socket is masked, when its LoadState tells so.
func (e *Endpoint) maskedError(load string) error {
	if load != "masked" {
		return nil
	}
	return e.findMask("").Err()
}
