package logs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// UnitName is the transient service in which systemd supervises the log process.
const UnitName = "nomad-podman-logs.service"

// Systemd is what Ensure needs of a service manager. Both calls wait for the job's end.
type Systemd interface {
	StartTransient(ctx context.Context, name string, props []systemd.Property) error
	RestartUnit(ctx context.Context, name string) error
}

// Unit returns the name and the properties (systemd.service(5), by their names on D-Bus,
// org.freedesktop.systemd1(5)) of the log process' transient service. exe is the absolute path of the binary.
func Unit(exe, socket, stateDir string) (name string, props []systemd.Property) {
	property := func(name string, value any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	return UnitName, []systemd.Property{
		systemd.PropDescription("Logs of Nomad's Podman tasks"),
		systemd.PropExecStart([]string{exe, Subcommand, "-socket", socket, "-state-dir", stateDir}, false),
		systemd.PropType("notify"),
		property("NotifyAccess", "main"),
		// Tasks' FIFOs and log files, three a task, wait in systemd while the process restarts.
		property("FileDescriptorStoreMax", uint32(4096)),
		// Always come back, however often it ends; RestartSec= stays at systemd's 100 ms, in which a FIFO's
		// reader notices nothing, so that a missing binary does not become a busy loop.
		property("Restart", "always"),
		property("StartLimitIntervalUSec", uint64(0)),
		// Containers should be killed before what carries their logs.
		property("OOMScoreAdjust", int32(-900)),
		property("NoNewPrivileges", true),
		property("CollectMode", "inactive-or-failed"),
	}
}

// Subcommand is the command line word that runs the log process.
const Subcommand = "logs"

// Main is the body of the subcommand: it reads the flags that Unit passes and serves until ctx ends or systemd
// stops the process.
func Main(ctx context.Context, args []string, logger hclog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	c, err := parseFlags(args)
	if err != nil {
		return err
	}
	c.Logger = logger
	return Serve(ctx, c)
}

func parseFlags(args []string) (c ServeConfig, err error) {
	f := flag.NewFlagSet(Subcommand, flag.ContinueOnError)
	f.StringVar(&c.Socket, "socket", "", "control `socket`, in a directory of its own")
	f.StringVar(&c.StateDir, "state-dir", "", "`directory` for what must survive a restart")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 || c.Socket == "" || c.StateDir == "" {
		f.Usage()
		return c, errors.New("-socket and -state-dir are needed, and nothing else")
	}
	return c, nil
}

// executable identifies an executable file.
type executable struct {
	Dev, Ino  uint64
	Size      int64
	ChangedNs int64
}

// self identifies the file that this process was started from, also when it has been replaced since.
func self() (executable, error) {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return executable{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return executable{}, fmt.Errorf("no inode of %s", info.Name())
	}
	return executable{Dev: st.Dev, Ino: st.Ino, Size: st.Size, ChangedNs: st.Ctim.Nano()}, nil
}

// probeTimeout is how long a log process may take to say which binary it is before it is restarted. On a host with much to
// do, where a restart would only be more of it, that takes seconds.
const probeTimeout = 30 * time.Second

// ensuring is held by one Ensure at a time, so that many tasks' starts do not restart the log process in turn.
var ensuring = semaphore.NewWeighted(1)

// Ensure makes sure that the log process runs, and runs the calling process's binary, and returns its client.
// A process of another binary is restarted, which no reader of a FIFO notices. When it is as it should be,
// that costs one request on its socket. Give ctx a deadline.
func Ensure(ctx context.Context, s Systemd, socket, stateDir string) (*Client, error) {
	if err := ensuring.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("log process: still being started: %w", err)
	}
	defer ensuring.Release(1)
	want, err := self()
	if err != nil {
		return nil, err
	}
	c := NewClient(socket)
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var got executable
	answers := c.try(probe, http.MethodGet, pathBuild, nil, &got) == nil
	if answers && got == want {
		return c, nil
	}
	exe, err := link(stateDir)
	if err != nil {
		return nil, fmt.Errorf("log process: %w", err)
	}
	// One that does not answer may be there all the same; else it is made.
	if err = s.RestartUnit(ctx, UnitName); err != nil && !answers {
		name, props := Unit(exe, socket, stateDir)
		if started := s.StartTransient(ctx, name, props); started != nil {
			err = errors.Join(started, err)
		} else {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start the log process: %w", err)
	}
	if got, err = c.build(ctx); err != nil {
		return nil, err
	}
	if got != want {
		return nil, fmt.Errorf("%s runs another binary than this one, and still does after a restart: was it started with another state directory? "+
			"When no task runs, systemctl stop %s", UnitName, UnitName)
	}
	return c, nil
}

// link makes StateDir/nomad-driver-podman a symbolic link to the running binary and returns its path.
// A transient unit's command is fixed: through the link a restart also takes up a binary at another path,
// while stopping the unit to change its command would close the FIFOs.
func link(stateDir string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(stateDir, "nomad-driver-podman")
	next := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Symlink(exe, next); err != nil {
		return "", err
	}
	if err := os.Rename(next, path); err != nil {
		return "", errors.Join(err, os.Remove(next))
	}
	return path, nil
}
