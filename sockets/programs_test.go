package sockets

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"podman version 5.4.2":            {5, 4, 2},
		"podman version 4.9.4-rhel":       {4, 9, 4},
		"runc version 1.1.5+ds1":          {1, 1, 5},
		"crun version 1.21":               {1, 21, 0},
		"257.9-1~deb13u1":                 {257, 9, 0},
		"pasta 0.0~git20250503.587980c-2": {0, 0, 0},
		"crun version UNKNOWN":            {},
		"":                                {},
	} {
		must.Eq(t, want, parseVersion(text), must.Sprint(text))
	}
}

// A host has what its files are: the first line of a file stands for what the program says of itself.
func TestFindPrograms(t *testing.T) {
	healthy := map[string]string{
		"usr/bin/podman": "podman version 5.4.2", "usr/bin/conmon": "conmon version 2.1.12\ncommit: unknown",
		"usr/bin/crun": "crun version 1.21", "usr/bin/pasta": "pasta 0.0~git20250503",
	}
	for name, test := range map[string]struct {
		change   map[string]string // files that are there, too; empty: not
		rootful  bool
		id       string
		want     finding.Status
		seen     string
		why      string
		commands string // in what to run
	}{
		"podman":                {id: "podman", want: finding.OK, seen: "podman version 5.4.2 (/usr/bin/podman)"},
		"no podman":             {change: map[string]string{"usr/bin/podman": ""}, id: "podman", want: finding.Fail, seen: "no podman", why: "tasks run in podman", commands: "podman"},
		"old podman":            {change: map[string]string{"usr/bin/podman": "podman version 4.2.9"}, id: "podman", want: finding.Fail, why: "4.3 or newer"},
		"podman 4.3":            {change: map[string]string{"usr/bin/podman": "podman version 4.3.0"}, id: "podman", want: finding.OK},
		"health checks":         {change: map[string]string{"usr/bin/podman": "podman version 5.4.1"}, id: "podman", want: finding.OK, seen: "health checks"},
		"podman that fails":     {change: map[string]string{"usr/bin/podman": "!no library"}, id: "podman", want: finding.Warn, seen: "no library"},
		"first of the path":     {change: map[string]string{"usr/local/bin/podman": "podman version 6.0.0"}, id: "podman", want: finding.OK, seen: "/usr/local/bin/podman"},
		"conmon":                {id: "conmon", want: finding.OK, seen: "conmon version 2.1.12 (/usr/bin/conmon)"},
		"no conmon":             {change: map[string]string{"usr/bin/conmon": ""}, id: "conmon", want: finding.Fail, seen: "no conmon", commands: "conmon"},
		"old conmon":            {change: map[string]string{"usr/bin/conmon": "conmon version 2.0.26"}, id: "conmon", want: finding.Warn, why: "before 2.1.0"},
		"podman's own conmon":   {change: map[string]string{"usr/libexec/podman/conmon": "conmon version 2.2.0"}, id: "conmon", want: finding.OK, seen: "/usr/libexec/podman/conmon"},
		"configured conmon":     {change: map[string]string{"etc/containers/containers.conf": "[engine]\nconmon_path = ['/opt/c']", "opt/c": "conmon version 2.1.1"}, id: "conmon", want: finding.OK, seen: "/opt/c"},
		"mute pasta":            {change: map[string]string{"usr/bin/pasta": "\n"}, id: "network-helper", want: finding.OK, seen: "/usr/bin/pasta, which does not tell its version"},
		"crun":                  {id: "oci-runtime", want: finding.OK, seen: "crun version 1.21"},
		"runc":                  {change: map[string]string{"usr/bin/crun": "", "usr/sbin/runc": "runc version 1.1.5"}, id: "oci-runtime", want: finding.OK, seen: "/usr/sbin/runc"},
		"old runc":              {change: map[string]string{"usr/bin/crun": "", "usr/sbin/runc": "runc version 1.0.3"}, id: "oci-runtime", want: finding.Warn, why: "runc before 1.1.0"},
		"no runtime":            {change: map[string]string{"usr/bin/crun": ""}, id: "oci-runtime", want: finding.Fail, seen: "no OCI runtime (crun or runc)", commands: "crun"},
		"configured runtime":    {change: map[string]string{"etc/containers/containers.conf.d/a.conf": "[engine]\nruntime = 'kata'\n[engine.runtimes]\nkata = ['/opt/kata']", "opt/kata": "kata-runtime 3"}, id: "oci-runtime", want: finding.OK, seen: "/opt/kata"},
		"no configured runtime": {change: map[string]string{"etc/containers/containers.conf": "[engine]\nruntime = 'kata'"}, id: "oci-runtime", want: finding.Fail, seen: "kata, which containers.conf names"},
		"drop-ins win":          {change: map[string]string{"usr/share/containers/containers.conf": "[engine]\nruntime = 'kata'", "etc/containers/containers.conf": "[engine]\nruntime = '/usr/bin/crun'"}, id: "oci-runtime", want: finding.OK},
		"pasta":                 {id: "network-helper", want: finding.OK, seen: "/usr/bin/pasta"},
		"no helper":             {change: map[string]string{"usr/bin/pasta": ""}, id: "network-helper", want: finding.Fail, seen: "no pasta", why: "no network", commands: "passt"},
		"rootful":               {change: map[string]string{"usr/bin/pasta": ""}, rootful: true, id: "network-helper", want: finding.Skipped},
		"the other helper":      {change: map[string]string{"usr/bin/pasta": "", "usr/bin/slirp4netns": "slirp4netns version 1.2.0"}, id: "network-helper", want: finding.Warn, seen: "no pasta, but slirp4netns version 1.2.0", why: `network_mode = "slirp4netns"`, commands: "passt"},
		"podman 6 refuses it":   {change: map[string]string{"usr/bin/podman": "podman version 6.0.0", "usr/bin/pasta": "", "usr/bin/slirp4netns": "slirp4netns version 1.2.0"}, id: "network-helper", want: finding.Fail, seen: "no pasta"},
		"podman 4":              {change: map[string]string{"usr/bin/podman": "podman version 4.9.3", "usr/bin/slirp4netns": "slirp4netns version 1.2.0"}, id: "network-helper", want: finding.OK, seen: "slirp4netns"},
		"podman 4 with pasta":   {change: map[string]string{"usr/bin/podman": "podman version 4.9.3"}, id: "network-helper", want: finding.Warn, seen: "no slirp4netns, but pasta", commands: "slirp4netns"},
		"podman before pasta":   {change: map[string]string{"usr/bin/podman": "podman version 4.3.1"}, id: "network-helper", want: finding.Fail, seen: "no slirp4netns"},
		"old slirp4netns":       {change: map[string]string{"usr/bin/podman": "podman version 4.9.3", "usr/bin/slirp4netns": "slirp4netns version 0.4.0"}, id: "network-helper", want: finding.Warn, why: "before 1.0.0"},
		"configured helper":     {change: map[string]string{"etc/containers/containers.conf": "[network]\ndefault_rootless_network_cmd = 'slirp4netns'\n[engine]\nhelper_binaries_dir = ['/opt/h']", "opt/h/slirp4netns": "slirp4netns version 1.3.1"}, id: "network-helper", want: finding.OK, seen: "/opt/h/slirp4netns"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, files := range []map[string]string{healthy, test.change} {
				for file, text := range files {
					path := filepath.Join(root, file)
					must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
					_ = os.Remove(path)
					if text != "" {
						must.NoError(t, os.WriteFile(path, []byte(text), 0o755))
					}
				}
			}
			found := programs{root: root, run: readVersion(root)}.find(t.Context(), !test.rootful)
			must.Len(t, 4, found)
			f := found[slices.IndexFunc(found, func(f finding.Finding) bool { return f.ID == test.id })]
			must.Eq(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.StrContains(t, f.Why, test.why)
			must.StrContains(t, f.Remedy.String(), test.commands)
			must.Eq(t, f.Status == finding.OK || f.Status == finding.Skipped, f.Remedy.IsZero() && f.Why == "", must.Sprint(f))
		})
	}
}

func readVersion(root string) func(context.Context, string) (string, error) {
	return func(_ context.Context, path string) (string, error) {
		text, err := os.ReadFile(filepath.Join(root, path))
		if failure, fails := strings.CutPrefix(string(text), "!"); fails {
			return "", errors.New(failure)
		}
		return string(text), err
	}
}

// What others than root can change is not run.
func TestProgramOfOthers(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "usr/bin/podman")
	must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.NoError(t, os.WriteFile(path, nil, 0o755))
	p := programs{root: root, run: func(context.Context, string) (string, error) {
		t.Error("it was run")
		return "", nil
	}}
	must.NoError(t, os.Chmod(path, 0o777))
	f, _ := p.findPodman(t.Context())
	must.EqOp(t, finding.Fail, f.Status)
	must.StrContains(t, f.Seen, "can be written by everybody")
	must.Eq(t, []string{"chmod o-w /usr/bin/podman"}, f.Remedy.Commands)

	needRoot(t)
	must.NoError(t, os.Chmod(path, 0o755))
	must.NoError(t, os.Chown(path, 65534, 0))
	f, _ = p.findPodman(t.Context())
	must.EqOp(t, finding.Fail, f.Status)
	must.StrContains(t, f.Seen, "belongs to UID 65534")
}

func TestAskVersion(t *testing.T) {
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "program")
		must.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
		return path
	}
	text, err := askVersion(t.Context(), script(`echo "x version 1.2 $1"`))
	must.NoError(t, err)
	must.EqOp(t, "x version 1.2 --version\n", text)
	_, err = askVersion(t.Context(), script("echo broken >&2; exit 3"))
	must.ErrorContains(t, err, "exit status 3: broken")
	text, err = askVersion(t.Context(), script("yes | head -c 100000"))
	must.NoError(t, err)
	must.EqOp(t, maxMessage, len(text))

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = askVersion(ctx, script("exec sleep 100"))
	must.ErrorIs(t, err, context.DeadlineExceeded)
}
