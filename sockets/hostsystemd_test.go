package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

// fakeSystem is a host's systemd.
type fakeSystem struct {
	version string
	units   map[string]map[string]any
	logind  error
}

func (s *fakeSystem) connect(context.Context) (hostSystemd, error) { return s, nil }
func (s *fakeSystem) Version(context.Context) (string, error)      { return s.version, nil }
func (s *fakeSystem) PingLogind(context.Context) error             { return s.logind }
func (s *fakeSystem) Close()                                       {}
func (s *fakeSystem) Properties(_ context.Context, unit string) (map[string]any, error) {
	if props, found := s.units[unit]; found {
		return props, nil
	}
	return map[string]any{"LoadState": "not-found", "ActiveState": "inactive"}, nil
}

func TestFindSystemd(t *testing.T) {
	root := t.TempDir()
	must.NoError(t, os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755))
	must.NoError(t, os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
	must.NoError(t, os.WriteFile(filepath.Join(root, "usr/bin/dbus-daemon"), []byte("D-Bus Message Bus Daemon 1.16.2\n\nCopyright"), 0o755))
	host := programs{root: root, run: readVersion(root)}
	look := func(s *fakeSystem) (systemd, bus finding.Finding) {
		found := findSystemd(t.Context(), host, s.connect)
		must.Len(t, 2, found)
		must.EqOp(t, "systemd", found[0].ID)
		must.EqOp(t, "bus", found[1].ID)
		return found[0], found[1]
	}
	for version, want := range map[string]finding.Status{
		"257.9-1~deb13u1": finding.OK, "252.39": finding.OK, "249.11-0ubuntu3": finding.OK, "254.26": finding.OK, "256.3": finding.OK, "262": finding.OK, "odd": finding.OK,
		"255.4-1ubuntu8.17": finding.Warn, "255": finding.Warn, "256~rc3": finding.Warn, "256.2": finding.Warn, "239 (239-82.el8)": finding.Warn,
	} {
		systemd, _ := look(&fakeSystem{version: version})
		must.EqOp(t, want, systemd.Status, must.Sprint(version))
		must.EqOp(t, "systemd "+version, systemd.Seen)
	}
	for id, seen := range map[string]string{
		"dbus.service":        "D-Bus Message Bus Daemon 1.16.2 (/usr/bin/dbus-daemon)",
		"dbus-broker.service": "dbus-broker", // which is not installed in this root
	} {
		s := &fakeSystem{version: "257", units: map[string]map[string]any{"dbus.service": {"Id": id}}}
		_, bus := look(s)
		must.EqOp(t, finding.OK, bus.Status)
		must.EqOp(t, seen, bus.Seen)
		s.logind = errors.New("nobody has the name")
		_, bus = look(s)
		must.EqOp(t, finding.Fail, bus.Status)
		must.ErrorIs(t, bus.Err(), s.logind)
		must.Eq(t, []string{"systemctl restart systemd-logind.service"}, bus.Remedy.Commands)
	}

	// No bus.
	for _, err := range []error{fs.ErrNotExist, errors.New("connection refused")} {
		found := findSystemd(t.Context(), host, func(context.Context) (hostSystemd, error) { return nil, err })
		must.EqOp(t, finding.Skipped, found[0].Status)
		must.EqOp(t, finding.Fail, found[1].Status)
		must.EqOp(t, err == fs.ErrNotExist, strings.Contains(found[1].Remedy.String(), "install"), must.Sprint(found[1].Remedy))
	}

	// No systemd: nobody is asked.
	found := findSystemd(t.Context(), programs{root: t.TempDir()}, nil)
	must.EqOp(t, finding.Fail, found[0].Status)
	must.StrContains(t, found[0].Seen, "not run by systemd")
	must.EqOp(t, finding.Skipped, found[1].Status)
}

func TestFindAgentUnit(t *testing.T) {
	proc := t.TempDir()
	for _, pid := range []string{"1", "700", "701"} {
		must.NoError(t, os.MkdirAll(filepath.Join(proc, pid, "ns"), 0o755))
	}
	must.NoError(t, os.WriteFile(filepath.Join(proc, "1/ns/mnt"), nil, 0o644))
	must.NoError(t, os.Link(filepath.Join(proc, "1/ns/mnt"), filepath.Join(proc, "700/ns/mnt")))
	must.NoError(t, os.WriteFile(filepath.Join(proc, "701/ns/mnt"), nil, 0o644))

	const file = "/etc/systemd/system/nomad.service.d/zz-nomad-driver-podman.conf"
	for name, test := range map[string]struct {
		change map[string]any
		want   finding.Status
		seen   string
		why    []string
		writes string
	}{
		"healthy":               {want: finding.OK, seen: "nomad.service is active"},
		"stopped":               {change: map[string]any{"ActiveState": "inactive", "MainPID": uint32(0)}, want: finding.OK, seen: "nomad.service is inactive"},
		"gone meanwhile":        {change: map[string]any{"MainPID": uint32(702)}, want: finding.OK},
		"as a user":             {change: map[string]any{"User": "nomad"}, want: finding.OK, seen: "runs as nomad"},
		"none":                  {change: map[string]any{"LoadState": "not-found"}, want: finding.Skipped, seen: "no unit nomad.service"},
		"PrivateTmp":            {change: map[string]any{"PrivateTmp": true}, want: finding.Warn, seen: "nomad.service has PrivateTmp=yes", why: []string{whyOwnMounts}, writes: `PrivateTmp=no`},
		"KillMode":              {change: map[string]any{"KillMode": "control-group"}, want: finding.Warn, seen: "KillMode=control-group", why: []string{whyKilled}, writes: `KillMode=process`},
		"two of a kind":         {change: map[string]any{"PrivateTmp": true, "ProtectSystem": "full"}, want: finding.Warn, seen: "PrivateTmp=yes, ProtectSystem=full", why: []string{whyOwnMounts}, writes: `PrivateTmp=no\nProtectSystem=no`},
		"read-only home":        {change: map[string]any{"ProtectHome": "read-only"}, want: finding.Warn, seen: "ProtectHome=read-only", why: []string{whyOwnMounts}, writes: `ProtectHome=no`},
		"hidden home":           {change: map[string]any{"ProtectHome": "yes", "KillMode": "mixed"}, want: finding.Fail, seen: "ProtectHome=yes, KillMode=mixed", why: []string{whyHiddenHome, whyKilled}, writes: `ProtectHome=no\nKillMode=process`},
		"no user namespaces":    {change: map[string]any{"RestrictNamespaces": uint64(0x20000)}, want: finding.Fail, seen: "RestrictNamespaces", why: []string{whyNamespaces}, writes: `RestrictNamespaces=no`},
		"all namespaces":        {change: map[string]any{"RestrictNamespaces": ^uint64(0)}, want: finding.OK},
		"slave mounts":          {change: map[string]any{"MountFlags": uint64(0x80000)}, want: finding.Warn, seen: "MountFlags=slave", why: []string{whyOwnMounts}, writes: `MountFlags=`},
		"shared mounts":         {change: map[string]any{"MountFlags": uint64(0x100000)}, want: finding.OK},
		"not yet restarted":     {change: map[string]any{"MainPID": uint32(701)}, want: finding.Warn, seen: "process 701 of nomad.service, has a mount namespace of its own", why: []string{whyOwnMounts}},
		"properties in no form": {change: map[string]any{"PrivateTmp": "?", "KillMode": 7, "MainPID": "x"}, want: finding.OK},
	} {
		t.Run(name, func(t *testing.T) {
			props := map[string]any{"LoadState": "loaded", "ActiveState": "active", "MainPID": uint32(700), "User": "", "KillMode": "process",
				"PrivateTmp": false, "ProtectSystem": "no", "ProtectHome": "no", "MountFlags": uint64(0)}
			for name, value := range test.change {
				props[name] = value
			}
			s := &fakeSystem{units: map[string]map[string]any{"nomad.service": props}}
			f := findAgentUnit(t.Context(), "nomad.service", proc, s.connect)
			must.EqOp(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.EqOp(t, strings.Join(test.why, "; "), f.Why)
			switch {
			case test.writes != "":
				must.Eq(t, []string{
					"mkdir -p /etc/systemd/system/nomad.service.d",
					fmt.Sprintf(`printf '[Service]\n%s\n' >>%s`, test.writes, file),
					"systemctl daemon-reload",
				}, f.Remedy.Commands)
				must.True(t, f.Remedy.Safe)
			case test.want == finding.Warn:
				must.Eq(t, []string{"systemctl restart nomad.service"}, f.Remedy.Commands)
				must.False(t, f.Remedy.Safe)
			default:
				must.True(t, f.Remedy.IsZero())
			}
		})
	}
	f := findAgentUnit(t.Context(), "nomad.service", proc, func(context.Context) (hostSystemd, error) { return nil, errors.New("no bus") })
	must.EqOp(t, finding.Skipped, f.Status)
}

// On the real host, whatever that is.
func TestFindHost(t *testing.T) {
	for _, f := range append(FindSystemd(t.Context(), true), FindAgentUnit(t.Context(), "nomad.service")...) {
		must.NotEq(t, "", f.Seen)
	}
}
