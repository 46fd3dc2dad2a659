package sockets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"nomad-driver-podman/rootless"
)

// watchRetry is the time between two tries to watch a manager whose bus does not answer though it runs.
const watchRetry = time.Second

// unitWatch sees the changes of one unit of a systemd manager.
type unitWatch interface {
	// Changes gets a value when the unit, or a file of any unit, may have changed.
	Changes() <-chan struct{}
	// Closed is closed when the connection has ended, as it does with the manager.
	Closed() <-chan struct{}
	// State gives the unit's LoadState and ActiveState.
	State(ctx context.Context) (load, active string, err error)
	Close()
}

// startWatch has the endpoint's podman.socket watched, unless it is already, until its manager ends. Nobody asks podman
// meanwhile whether it is there: systemd tells when it is not.
func (e *Endpoint) startWatch() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watched || !e.registry.goWatch(e.watch) {
		return
	}
	e.watched = true
}

func (e *Endpoint) watch(ctx context.Context) {
	for {
		err := e.watchUnit(ctx)
		if ctx.Err() != nil {
			return
		}
		// The bus may only have been restarted. Nobody listens when the manager has ended.
		conn, dialErr := e.connect(ctx)
		if dialErr != nil {
			e.mu.Lock()
			e.watched, e.masked = false, nil
			e.mu.Unlock()
			// After that, so that an activation from now on either starts a watch or is undone.
			e.lost(fmt.Errorf("the connection to the systemd manager of %s has ended (%w), and so has podman.socket (%w)", e.client.owner, err, dialErr))
			return
		}
		_ = conn.Close() // nothing was sent
		select {
		case <-time.After(watchRetry):
		case <-ctx.Done():
			return
		}
	}
}

// watchUnit keeps the state true as long as the connection to the manager holds.
func (e *Endpoint) watchUnit(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, e.registry.options.Timeout)
	defer cancel()
	var user *rootless.User
	if e.Rootless() {
		owner := e.User()
		user = &owner
	}
	unit, err := e.registry.watchUnit(opening, user)
	if err != nil {
		return err
	}
	defer unit.Close()
	for {
		if err := e.look(ctx, unit); err != nil {
			return err
		}
		select {
		case <-unit.Changes():
		case <-unit.Closed():
			return errors.New("it was closed")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look takes the unit's state over.
func (e *Endpoint) look(ctx context.Context, unit unitWatch) error {
	ctx, cancel := context.WithTimeout(ctx, e.registry.options.Timeout)
	defer cancel()
	load, active, err := unit.State(ctx)
	if err != nil {
		return err
	}
	masked := e.maskedError(load)
	// First: who learns that the unit is not masked any more may activate it, which must not be undone.
	if active != "active" && active != "activating" {
		e.lost(fmt.Errorf("%s is %s", socketUnit, active))
	}
	e.mu.Lock()
	changed := errorText(e.masked) != errorText(masked)
	e.masked = masked
	e.mu.Unlock()
	if changed {
		e.registry.changed(e)
	}
	return nil
}

// lost notes that the endpoint is not active any more.
func (e *Endpoint) lost(why error) {
	e.setState(func(s *State) {
		if s.Active {
			s.Active, s.Err = false, why
		}
	})
}

// busWatch is a unitWatch on a D-Bus bus.
type busWatch struct {
	bus     *dbus.Conn
	unit    dbus.ObjectPath
	changes chan struct{}
}

// openWatch watches podman.socket of a user's manager, or of the system's when u is nil.
func openWatch(ctx context.Context, u *rootless.User) (unitWatch, error) {
	as, path := busOf(u)
	conn, err := as.DialUnix(ctx, path)
	if err != nil {
		return nil, err
	}
	// The handshake knows no context: its end becomes a deadline on the connection.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	w := &busWatch{changes: make(chan struct{}, 1)}
	if w.bus, err = openBus(conn, as, dbus.WithSignalHandler(w)); err != nil {
		return nil, err
	}
	if err := w.subscribe(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

const (
	systemd1   = "org.freedesktop.systemd1"
	properties = "org.freedesktop.DBus.Properties"
)

func (w *busWatch) manager() dbus.BusObject {
	return w.bus.Object(systemd1, "/org/freedesktop/systemd1")
}

// subscribe asks for the signals of org.freedesktop.systemd1(5) that tell of changes.
func (w *busWatch) subscribe(ctx context.Context) error {
	if err := w.manager().CallWithContext(ctx, systemd1+".Manager.LoadUnit", 0, socketUnit).Store(&w.unit); err != nil {
		return unitError(err)
	}
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchObjectPath(w.unit), dbus.WithMatchInterface(properties), dbus.WithMatchMember("PropertiesChanged")},
		{dbus.WithMatchInterface(systemd1 + ".Manager"), dbus.WithMatchMember("UnitFilesChanged")},
		{dbus.WithMatchInterface(systemd1 + ".Manager"), dbus.WithMatchMember("Reloading")},
	} {
		if err := w.bus.AddMatchSignalContext(ctx, append(match, dbus.WithMatchSender(systemd1))...); err != nil {
			return unitError(err)
		}
	}
	return unitError(w.manager().CallWithContext(ctx, systemd1+".Manager.Subscribe", 0).Err)
}

// DeliverSignal implements dbus.SignalHandler. What a signal says does not matter: the unit is looked at.
func (w *busWatch) DeliverSignal(string, string, *dbus.Signal) {
	select {
	case w.changes <- struct{}{}:
	default: // it is about to be looked at anyway
	}
}

// Changes implements unitWatch.
func (w *busWatch) Changes() <-chan struct{} { return w.changes }

// Closed implements unitWatch.
func (w *busWatch) Closed() <-chan struct{} { return w.bus.Context().Done() }

// State implements unitWatch.
func (w *busWatch) State(ctx context.Context) (load, active string, err error) {
	unit := w.bus.Object(systemd1, w.unit)
	for property, value := range map[string]*string{"LoadState": &load, "ActiveState": &active} {
		if err := unit.CallWithContext(ctx, properties+".Get", 0, systemd1+".Unit", property).Store(value); err != nil {
			return "", "", unitError(err)
		}
		*value = printable(*value)
	}
	return load, active, nil
}

// Close implements unitWatch.
func (w *busWatch) Close() { _ = w.bus.Close() }
