package sockets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"nomad-driver-podman/rootless"
)

const systemBus = "/run/dbus/system_bus_socket"

var (
	// ErrUnitNotFound is wrapped by errors about a unit that the manager does not know.
	ErrUnitNotFound = errors.New("unit not found")
	// ErrUnitMasked is wrapped by errors about a unit that an administrator has masked.
	ErrUnitMasked = errors.New("unit is masked")
	// errUnitBusy is about a unit that has a job which a start would undo.
	errUnitBusy = errors.New("unit is being stopped")
)

// Systemd is a connection to a systemd manager, the system's or a user's, over its D-Bus bus.
type Systemd struct {
	manager string // for messages
	conn    *systemd.Conn
	bus     *dbus.Conn // same bus, for other services on it
}

// ConnectSystem connects to the system's manager.
func ConnectSystem(ctx context.Context) (*Systemd, error) {
	self, bus := busOf(nil)
	return connect(ctx, self, bus, "the system")
}

// ConnectUser connects to the manager of a host user, which must run. The bus accepts only the user's own
// credentials, so the connection is made as the user.
func ConnectUser(ctx context.Context, u rootless.User) (*Systemd, error) {
	_, bus := busOf(&u)
	return connect(ctx, u, bus, "host user "+u.String())
}

// busOf is where the bus of a user listens, or the system's when u is nil, and as whom to connect to it.
func busOf(u *rootless.User) (as rootless.User, path string) {
	if u == nil {
		return rootless.User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}, systemBus //nolint:gosec // 32 bits wide
	}
	return *u, u.RuntimeDir() + "/bus"
}

func connect(ctx context.Context, u rootless.User, path, manager string) (*Systemd, error) {
	s := &Systemd{manager: manager}
	var stops []func() bool
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := u.DialUnix(ctx, path)
		if err != nil {
			return nil, err
		}
		// What happens until NewConnection returns knows no context: its end becomes a deadline on the connection.
		stops = append(stops, context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }))
		bus, err := openBus(conn, u)
		if s.bus == nil {
			s.bus = bus
		}
		return bus, err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the D-Bus bus of %s at %s: %w", manager, path, err)
	}
	s.conn = conn
	return s, nil
}

// openBus makes a D-Bus connection of a connection.
func openBus(conn net.Conn, u rootless.User, options ...dbus.ConnOption) (*dbus.Conn, error) {
	bus, err := dbus.NewConn(newBusGuard(conn), options...)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	err = bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.FormatUint(uint64(u.UID), 10))})
	if err == nil {
		err = bus.Hello()
	}
	if err != nil {
		return nil, errors.Join(err, bus.Close())
	}
	return bus, nil
}

// Close ends the connection.
func (s *Systemd) Close() { s.conn.Close() }

// Closed is closed when the connection has ended, also when the manager or its bus has.
func (s *Systemd) Closed() <-chan struct{} { return s.bus.Context().Done() }

// busyRetry is the time between two tries to start a unit that somebody is stopping.
const busyRetry = 250 * time.Millisecond

// StartUnit starts a unit and waits until that is done. One that is active already is no error. It takes nobody's job
// back: a unit that is being stopped is started afterwards.
func (s *Systemd) StartUnit(ctx context.Context, name string) error {
	for {
		err := s.job(ctx, "starting", name, func(done chan<- string) error {
			_, err := s.conn.StartUnitContext(ctx, name, "fail", done)
			return err
		})
		if !errors.Is(err, errUnitBusy) {
			return err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done():
			return err
		}
	}
}

// StopUnit stops a unit and waits until that is done.
func (s *Systemd) StopUnit(ctx context.Context, name string) error {
	return s.job(ctx, "stopping", name, func(done chan<- string) error {
		_, err := s.conn.StopUnitContext(ctx, name, "replace", done)
		return err
	})
}

// RestartUnit restarts a unit, or starts it, and waits until that is done.
func (s *Systemd) RestartUnit(ctx context.Context, name string) error {
	return s.job(ctx, "restarting", name, func(done chan<- string) error {
		_, err := s.conn.RestartUnitContext(ctx, name, "replace", done)
		return err
	})
}

// StartTransient makes a transient unit, starts it and waits until that is done.
func (s *Systemd) StartTransient(ctx context.Context, name string, props []systemd.Property) error {
	return s.job(ctx, "starting", name, func(done chan<- string) error {
		_, err := s.conn.StartTransientUnitContext(ctx, name, "replace", props, done)
		return err
	})
}

// SetUserWeight sets until the next boot how much of the processors a user's slice gets when those of other users want
// them too: the runtime property CPUWeight= of systemd.resource-control(5), from 1 to 10000. The weight 0 takes it back. It
// is for a connection to the system's manager.
func (s *Systemd) SetUserWeight(ctx context.Context, uid uint32, weight uint64) error {
	slice := fmt.Sprintf("user-%d.slice", uid)
	if weight == 0 {
		weight = math.MaxUint64 // "CPUWeight=" without a value
	}
	err := s.conn.SetUnitPropertiesContext(ctx, slice, true, systemd.Property{Name: "CPUWeight", Value: dbus.MakeVariant(weight)})
	if err != nil {
		return fmt.Errorf("setting CPUWeight= of %s: %w", slice, unitError(err))
	}
	return nil
}

func (s *Systemd) job(ctx context.Context, doing, name string, enqueue func(done chan<- string) error) error {
	done := make(chan string, 1)
	err := enqueue(done)
	if err == nil {
		select {
		case result := <-done:
			if result != "done" && result != "skipped" {
				err = fmt.Errorf("job %s%s", printable(result), s.describe(ctx, name))
			}
		case <-s.Closed():
			err = errors.New("the D-Bus connection ended meanwhile")
		case <-ctx.Done():
			err = fmt.Errorf("not done in time%s: %w", s.describe(context.WithoutCancel(ctx), name), context.Cause(ctx))
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s of %s: %w", doing, name, s.manager, unitError(err))
	}
	return nil
}

// unitError adds the kinds of failure that callers tell apart, from the error names of org.freedesktop.systemd1(5).
func unitError(err error) error {
	var failure dbus.Error
	if !errors.As(err, &failure) {
		return err
	}
	switch failure.Name {
	case "org.freedesktop.systemd1.NoSuchUnit":
		return fmt.Errorf("%w: %s", ErrUnitNotFound, printable(failure.Error()))
	case "org.freedesktop.systemd1.TransactionIsDestructive":
		return fmt.Errorf("%w: %s", errUnitBusy, printable(failure.Error()))
	case "org.freedesktop.systemd1.UnitMasked":
		return fmt.Errorf("%w: %s", ErrUnitMasked, printable(failure.Error()))
	}
	return errors.New(printable(failure.Error()))
}

// describe says what state a unit is in, for an error message.
func (s *Systemd) describe(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, active, sub, err := s.UnitState(ctx, name)
	if err != nil {
		return ""
	}
	text := fmt.Sprintf("; the unit is %s (%s", active, sub)
	_, kind, _ := strings.Cut(name, ".")
	if kind == "service" || kind == "socket" {
		kind = strings.ToUpper(kind[:1]) + kind[1:]
		if result, err := s.conn.GetUnitTypePropertyContext(ctx, name, kind, "Result"); err == nil {
			text += ", result " + variantString(result)
		}
	}
	return text + ")"
}

// UnitState gives a unit's LoadState, ActiveState and SubState of org.freedesktop.systemd1(5). A unit that does
// not exist has the load state not-found.
func (s *Systemd) UnitState(ctx context.Context, name string) (load, active, sub string, err error) {
	for property, value := range map[string]*string{"LoadState": &load, "ActiveState": &active, "SubState": &sub} {
		p, err := s.conn.GetUnitPropertyContext(ctx, name, property)
		if err != nil {
			return "", "", "", fmt.Errorf("asking %s for the state of %s: %w", s.manager, name, unitError(err))
		}
		*value = variantString(p)
	}
	return load, active, sub, nil
}

// Activated says when, after boot, a unit became active the last time, and whether it is
// (ActiveEnterTimestampMonotonic and ActiveState of org.freedesktop.systemd1(5)).
func (s *Systemd) Activated(ctx context.Context, name string) (at time.Duration, active bool, err error) {
	_, state, _, err := s.UnitState(ctx, name)
	if err != nil {
		return 0, false, err
	}
	p, err := s.conn.GetUnitPropertyContext(ctx, name, "ActiveEnterTimestampMonotonic")
	if err != nil {
		return 0, false, fmt.Errorf("asking %s since when %s is active: %w", s.manager, name, unitError(err))
	}
	microseconds, _ := p.Value.Value().(uint64)
	return time.Duration(microseconds) * time.Microsecond, state == "active", nil //nolint:gosec // after boot
}

// Running tells whether the manager has an active unit whose name matches a pattern (glob(7)).
func (s *Systemd) Running(ctx context.Context, pattern string) (bool, error) {
	units, err := s.conn.ListUnitsByPatternsContext(ctx, []string{"active"}, []string{pattern})
	if err != nil {
		return false, fmt.Errorf("asking %s for units %s: %w", s.manager, pattern, unitError(err))
	}
	return len(units) > 0, nil
}

// Stopping tells whether the manager is shutting down (SystemState of org.freedesktop.systemd1(5)).
func (s *Systemd) Stopping(ctx context.Context) (bool, error) {
	p, err := s.conn.SystemStateContext(ctx)
	if err != nil {
		return false, fmt.Errorf("asking %s for its state: %w", s.manager, unitError(err))
	}
	return variantString(p) == "stopping", nil
}

func variantString(p *systemd.Property) string {
	value, _ := p.Value.Value().(string)
	return printable(value)
}

// login1 is systemd-logind on the system's bus (org.freedesktop.login1(5)).
const login1 = "org.freedesktop.login1"

// EnableLinger makes systemd keep the manager of the user running without a session, from boot on (loginctl(1)), unless
// it does so already: an agent that is not root may not be allowed to ask for it. It is for a connection to the
// system's bus.
func (s *Systemd) EnableLinger(ctx context.Context, uid uint32) error {
	if s.Lingers(ctx, uid) {
		return nil
	}
	if err := s.setLinger(ctx, uid, true); err != nil {
		return fmt.Errorf("enabling lingering of UID %d: %w", uid, err)
	}
	return nil
}

// DisableLinger lets the manager of the user end with the user's last session, or now when there is none.
func (s *Systemd) DisableLinger(ctx context.Context, uid uint32) error {
	if err := s.setLinger(ctx, uid, false); err != nil {
		return fmt.Errorf("disabling lingering of UID %d: %w", uid, err)
	}
	return nil
}

func (s *Systemd) setLinger(ctx context.Context, uid uint32, on bool) error {
	return unitError(s.bus.Object(login1, "/org/freedesktop/login1").CallWithContext(ctx, login1+".Manager.SetUserLinger", 0, uid, on, false).Err)
}

// Lingers tells whether the user's manager is known to outlive the user's sessions. It is for a connection to the
// system's bus.
func (s *Systemd) Lingers(ctx context.Context, uid uint32) bool {
	var lingers bool
	err := s.user(ctx, uid, "Linger", &lingers)
	return err == nil && lingers // an error says that the user is not there (yet), or is the next call's, too
}

// LoggedIn tells whether the user is known to have a session. It is for a connection to the system's bus.
func (s *Systemd) LoggedIn(ctx context.Context, uid uint32) bool {
	var sessions []struct {
		ID   string
		Path dbus.ObjectPath
	}
	err := s.user(ctx, uid, "Sessions", &sessions)
	return err == nil && len(sessions) > 0
}

// user asks logind for a property of a user who is logged in or lingers.
func (s *Systemd) user(ctx context.Context, uid uint32, property string, value any) error {
	var path dbus.ObjectPath
	if err := s.bus.Object(login1, "/org/freedesktop/login1").CallWithContext(ctx, login1+".Manager.GetUser", 0, uid).Store(&path); err != nil {
		return err
	}
	return s.bus.Object(login1, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, login1+".User", property).Store(value)
}
