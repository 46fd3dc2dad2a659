package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"nomad-driver-podman/finding"
)

// lookTimeout bounds how long systemd and what else answers at once may take to be looked at.
const lookTimeout = 15 * time.Second

const logindUnit = "systemd-logind.service"

// hostSystemd is what is asked about the system's systemd and its units.
type hostSystemd interface {
	Version(ctx context.Context) (string, error)
	Properties(ctx context.Context, unit string) (map[string]any, error)
	PingLogind(ctx context.Context) error
	Close()
}

func connectHost(ctx context.Context) (hostSystemd, error) { return ConnectSystem(ctx) }

// Version is the manager's own, with what a distribution adds ("257.9-1~deb13u1").
func (s *Systemd) Version(ctx context.Context) (string, error) {
	var version string
	err := s.bus.Object(systemd1, "/org/freedesktop/systemd1").CallWithContext(ctx, properties+".Get", 0, systemd1+".Manager", "Version").Store(&version)
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", s.manager, unitError(err))
	}
	return printable(version), nil
}

// Properties are those of a unit and of its type, by their names in org.freedesktop.systemd1(5).
func (s *Systemd) Properties(ctx context.Context, unit string) (map[string]any, error) {
	all, err := s.conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return nil, fmt.Errorf("asking %s for the properties of %s: %w", s.manager, unit, unitError(err))
	}
	return all, nil
}

// PingLogind tells whether systemd-logind answers. It does not make the bus start it.
func (s *Systemd) PingLogind(ctx context.Context) error {
	return unitError(s.bus.Object(login1, "/org/freedesktop/login1").CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", dbus.FlagNoAutoStart).Err)
}

// FindSystemd looks at the system's systemd and bus.
func FindSystemd(ctx context.Context, _ bool) []finding.Finding {
	return findSystemd(ctx, programs{root: "/", run: askVersion}, connectHost)
}

func findSystemd(ctx context.Context, host programs, connect func(context.Context) (hostSystemd, error)) []finding.Finding {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	// What sd_booted(3) looks at.
	if _, err := os.Stat(filepath.Join(host.root, "run/systemd/system")); err != nil {
		return []finding.Finding{{
			ID: "systemd", Subject: finding.Host, Status: finding.Fail, Seen: "this host is not run by systemd",
			Why:    "it is systemd that starts podman and gives containers of host users their control groups",
			Remedy: finding.Remedy{Advice: "boot the host with systemd as its init"},
		}, finding.Skip("bus", finding.Host, "it is systemd that would be asked over it")}
	}
	system, err := connect(ctx)
	if err != nil {
		return []finding.Finding{finding.Skip("systemd", finding.Host, "it runs, and tells its version over the bus"), noBus(err)}
	}
	defer system.Close()
	return []finding.Finding{findVersion(ctx, system), findBus(ctx, host, system)}
}

func noBus(err error) finding.Finding {
	f := finding.Finding{
		ID: "bus", Subject: finding.Host, Status: finding.Fail, Seen: err.Error(), Cause: err,
		Why:    "the driver asks systemd over the system's bus to start podman",
		Remedy: finding.Remedy{Advice: "see journalctl --unit=dbus.service; once the bus runs again, restart " + logindUnit},
	}
	if errors.Is(err, fs.ErrNotExist) {
		f.Remedy = finding.Install("dbus", "dbus-broker")
	}
	return f
}

func findVersion(ctx context.Context, system hostSystemd) finding.Finding {
	const id = "systemd"
	text, err := system.Version(ctx)
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	f := finding.Good(id, finding.Host, "systemd %s", text)
	switch v := parseVersion(text); {
	case v == version{}:
	case v.before(249, 0, 0):
		f.Status, f.Why = finding.Warn, "the driver is not known to work with systemd before version 249"
		f.Remedy = finding.Remedy{Advice: "upgrade to a release of the distribution with a newer one; 252 is tried"}
	case !v.before(255, 0, 0) && v.before(256, 3, 0):
		// https://github.com/systemd/systemd/issues/43361, mended by pull request 33786.
		f.Status, f.Why = finding.Warn, "logind of versions 255 to 256.2 may end a lingering user's manager, with all tasks of that user, when the user's last session ends"
		f.Remedy = finding.Remedy{Advice: "do not log in as a host user who runs tasks, or upgrade to systemd 256.3 or newer"}
	}
	return f
}

// findBus looks which program the bus is, and whether logind is there.
func findBus(ctx context.Context, host programs, system hostSystemd) finding.Finding {
	const id = "bus"
	// The unit of the bus that is in use has this name, too.
	bus, err := system.Properties(ctx, "dbus.service")
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	name, _ := bus["Id"].(string)
	if name = printable(strings.TrimSuffix(name, ".service")); name == "dbus" {
		name = "dbus-daemon"
	}
	f := finding.Good(id, finding.Host, "%s", name)
	if program, _ := host.look(ctx, program{id: id, where: paths(programDirs, name)}); program.Status == finding.OK {
		f = program
	}
	if err := system.PingLogind(ctx); err != nil {
		f.Status, f.Cause = finding.Fail, err
		f.Seen += ", but " + logindUnit + " does not answer on it: " + err.Error()
		f.Why = "no host user's systemd manager can be started"
		// It does not notice that the bus was restarted.
		f.Remedy = finding.Remedy{Commands: []string{"systemctl restart " + logindUnit}}
	}
	return f
}
