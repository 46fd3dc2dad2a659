package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"nomad-driver-podman/rootless"
)

// activationTimeout bounds a whole activation. systemd itself gives a user's manager 90 s to start.
const activationTimeout = 2 * time.Minute

// manager is what an activation needs of systemd.
type manager interface {
	StartUnit(ctx context.Context, name string) error
	StopUnit(ctx context.Context, name string) error
	RestartUnit(ctx context.Context, name string) error
	UnitState(ctx context.Context, name string) (load, active, sub string, err error)
	EnableLinger(ctx context.Context, uid uint32) error
	DisableLinger(ctx context.Context, uid uint32) error
	Lingers(ctx context.Context, uid uint32) bool
	LoggedIn(ctx context.Context, uid uint32) bool
	Running(ctx context.Context, pattern string) (bool, error)
	Activated(ctx context.Context, unit string) (at time.Duration, active bool, err error)
	Stopping(ctx context.Context) (bool, error)
	Close()
}

// connectManager connects to the manager of a user, or to the system's when u is nil.
func connectManager(ctx context.Context, u *rootless.User) (manager, error) {
	if u == nil {
		return ConnectSystem(ctx)
	}
	return ConnectUser(ctx, *u)
}

// Activate makes sure that the endpoint answers, and returns its client. For a host user's podman.socket it has
// systemd start the user's manager, which lingers from then on if so configured, and the socket. An endpoint that was
// active is only checked for still listening. Callers at the same time share one activation, which goes on when
// the context of one of them ends.
func (e *Endpoint) Activate(ctx context.Context) (*Client, error) {
	result := e.flight.DoChan("", func() (any, error) { return nil, e.activate() })
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return e.client, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("activating podman of %s: %w", e.client.owner, context.Cause(ctx))
	}
}

func (e *Endpoint) activate() error {
	ctx, end, err := e.registry.begin(activationTimeout)
	if err != nil {
		return fmt.Errorf("activating podman of %s: %w", e.client.owner, err)
	}
	defer end()
	e.turn.Lock()
	defer e.turn.Unlock()
	if e.State().Active {
		if conn, err := e.dial(ctx); err == nil {
			return conn.Close()
		}
	}
	info, err := e.start(ctx)
	if err != nil {
		err = fmt.Errorf("activating podman of %s: %w", e.client.owner, err)
		e.setState(func(s *State) { s.Active, s.Err = false, err })
		return err
	}
	e.registry.options.Logger.Info("podman is active", "of", e.client.owner, "socket", e.path, "version", info.Version)
	e.setState(func(s *State) { *s = State{Active: true, Info: info} })
	if e.managed {
		e.startWatch()
	}
	return nil
}

func (e *Endpoint) start(ctx context.Context) (Info, error) {
	if !e.managed {
		return e.client.Info(ctx)
	}
	if err := e.startSocket(ctx); err != nil {
		return Info{}, err
	}
	// podman starts with the first request, and makes the storage of a new user. That may take what an activation may.
	starting := *e.client
	starting.timeout = activationTimeout
	return starting.Info(ctx)
}

// startSocket has systemd start the podman.socket of the endpoint's user.
func (e *Endpoint) startSocket(ctx context.Context) error {
	user := e.User()
	if err := e.registry.permit(user); err != nil {
		return err
	}
	if user.IsRoot() {
		return e.startUnit(ctx, nil)
	}
	if err := e.registry.checkIDs(user); err != nil {
		return err
	}
	if err := e.startManager(ctx, user); err != nil {
		return err
	}
	return e.startUnit(ctx, &user)
}

// startManager has the system's systemd start the user's, without a session.
func (e *Endpoint) startManager(ctx context.Context, user rootless.User) error {
	options := &e.registry.options
	switch {
	case e.registry.agent == 0:
		system, err := e.registry.connect(ctx, nil)
		if err != nil {
			return err
		}
		defer system.Close()
		if err := e.noteManager(ctx, system, user); err != nil {
			return err
		}
		if options.Linger {
			if err := system.EnableLinger(ctx, user.UID); err != nil {
				return fmt.Errorf("%w; without lingering the user's tasks end with their last session (to accept that, set rootless { linger = false })", err)
			}
		}
		if err := freshRuntimeDir(ctx, system, user); err != nil {
			return err
		}
		return system.StartUnit(ctx, userManagerUnit(user))
	case options.Linger:
		// The agent's own manager runs. polkit(8) may leave its lingering to the administrator.
		if err := e.lingerSelf(ctx); err != nil {
			options.Logger.Warn("tasks end with the last session of the agent's user; "+e.linger().String(), "error", err)
		}
	}
	return nil
}

// noteManager notes what of the user's manager is not there yet.
func (e *Endpoint) noteManager(ctx context.Context, system manager, user rootless.User) error {
	_, active, _, err := system.UnitState(ctx, userManagerUnit(user))
	if err != nil {
		return err
	}
	lingers := !e.registry.options.Linger || system.Lingers(ctx, user.UID)
	return e.registry.noteStarted(user.UID, func(what *started) {
		what.Manager = what.Manager || active != "active"
		what.Linger = what.Linger || !lingers
	})
}

// noteSocket notes that podman.socket is not active yet.
func (e *Endpoint) noteSocket(ctx context.Context, systemd manager, user rootless.User) error {
	_, active, _, err := systemd.UnitState(ctx, socketUnit)
	if err != nil || active == "active" {
		return err
	}
	return e.registry.noteStarted(user.UID, func(what *started) { what.Socket = true })
}

// freshRuntimeDir gives a user a new runtime directory when the user's manager was killed. podman takes what it finds
// there for alive, such as its pause process, and then fails at every start; without it, it starts as after a reboot.
// A user who is logged in keeps the directory: it has more in it than podman's files.
func freshRuntimeDir(ctx context.Context, system manager, user rootless.User) error {
	_, active, _, err := system.UnitState(ctx, userManagerUnit(user))
	if err != nil || active != "failed" || system.LoggedIn(ctx, user.UID) {
		return err
	}
	return system.StopUnit(ctx, runtimeDirUnit(user))
}

// ManagerRuns tells whether the systemd manager on which the endpoint's containers depend, that of the host user, has
// run without an end since a time after boot, and is not about to end. For root's it tells whether the host is not
// being shut down.
func (e *Endpoint) ManagerRuns(ctx context.Context, since time.Duration) (bool, error) {
	if e.User() == rootless.Unknown {
		return true, nil
	}
	system, err := e.registry.connect(ctx, nil)
	if err != nil {
		return false, err
	}
	defer system.Close()
	if !e.Rootless() {
		stopping, err := system.Stopping(ctx)
		return !stopping, err
	}
	activated, active, err := system.Activated(ctx, userManagerUnit(e.User()))
	return active && activated <= since, err
}

func userManagerUnit(u rootless.User) string { return fmt.Sprintf("user@%d.service", u.UID) }

func runtimeDirUnit(u rootless.User) string { return fmt.Sprintf("user-runtime-dir@%d.service", u.UID) }

func (e *Endpoint) lingerSelf(ctx context.Context) error {
	system, err := e.registry.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer system.Close()
	return system.EnableLinger(ctx, e.registry.agent)
}

// startUnit starts podman.socket of a user, or the system's when user is nil.
func (e *Endpoint) startUnit(ctx context.Context, user *rootless.User) error {
	systemd, err := e.registry.connect(ctx, user)
	if errors.Is(err, fs.ErrNotExist) && user != nil {
		return fmt.Errorf("%w; is the package dbus-user-session installed, and does user@%d.service run (as root: loginctl enable-linger %s)?", err, user.UID, user)
	}
	if err != nil {
		return err
	}
	defer systemd.Close()
	if user != nil && e.registry.agent == 0 {
		if err := e.noteSocket(ctx, systemd, *user); err != nil {
			return err
		}
	}
	err = systemd.StartUnit(ctx, socketUnit)
	if err == nil && e.lostSocket(ctx) {
		err = systemd.RestartUnit(ctx, socketUnit)
	}
	switch {
	case errors.Is(err, ErrUnitNotFound):
		return fmt.Errorf("%w; %s", err, installPodman())
	case errors.Is(err, ErrUnitMasked):
		return fmt.Errorf("%w; %s", err, e.unmask(""))
	}
	return err
}

// lostSocket tells whether a socket that systemd listens at has no file any more: "podman system reset" removes it,
// which systemd does not notice.
func (e *Endpoint) lostSocket(ctx context.Context) bool {
	conn, err := e.connect(ctx)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	_ = conn.Close() // nothing was sent
	return false
}

// CheckActivatable looks for what would make Activate fail, in files and in what is known from the watch: it starts
// nothing and asks nobody. A host that could hold no limits of rootless containers refuses their endpoints, too.
func (e *Endpoint) CheckActivatable(context.Context) error {
	if err := e.checkUser(); err != nil || !e.managed {
		return err
	}
	e.mu.Lock()
	masked := e.masked
	e.mu.Unlock()
	if masked != nil {
		return masked
	}
	if !e.Rootless() {
		return e.findUnitFile(systemUnits).Err()
	}
	return e.findUnitFile(userUnits).Err()
}

// checkUser makes sure that the agent may use the podman of the endpoint's user, and that containers of that user work.
func (e *Endpoint) checkUser() error {
	user := e.User()
	if err := e.registry.permit(user); err != nil {
		return err
	}
	if user == rootless.Unknown || user.IsRoot() {
		return nil
	}
	if err := e.registry.checkHost(); err != nil || !e.managed {
		return err
	}
	if _, err := rootless.LookupUID(user.UID); err != nil {
		return err
	}
	return e.registry.checkIDs(user)
}
