package allocdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// build makes the directories of an allocation with the tasks web and other as Nomad does, but for the tmpfs of secrets.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "alloc-id")
	for _, dir := range []string{
		"alloc/logs", "alloc/data", "alloc/tmp",
		"web/local", "web/secrets", "web/private", "web/tmp", "other/local", "other/secrets",
	} {
		must.NoError(t, os.MkdirAll(filepath.Join(path, dir), 0o777))
	}
	for _, dir := range []string{"alloc", "alloc/logs", "alloc/data", "web", "web/local", "web/secrets"} {
		open777(t, filepath.Join(path, dir))
	}
	return path
}

// open777 is what Nomad does to a directory at each start of the agent.
func open777(t *testing.T, path string) {
	t.Helper()
	must.NoError(t, os.Chmod(path, 0o777))
	if os.Geteuid() == 0 {
		must.NoError(t, os.Chown(path, 65534, 65534))
	}
}

// replace moves what is at a path away and calls put to put something else there.
func replace(t *testing.T, path string, put func(path string) error) {
	t.Helper()
	must.NoError(t, os.Rename(path, path+".was"))
	must.NoError(t, put(path))
}

// impostors are what a task could put in the place of a directory, and the error that this gives.
var impostors = []struct {
	name string
	put  func(path string) error
	err  error
}{
	{"link to a directory", func(path string) error { return os.Symlink("/", path) }, unix.ELOOP},
	{"link to where it was", func(path string) error { return os.Symlink(path+".was", path) }, unix.ELOOP},
	{"FIFO", func(path string) error { return unix.Mkfifo(path, 0o666) }, unix.ENOTDIR},
	{"file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, unix.ENOTDIR},
	{"nothing", func(string) error { return nil }, unix.ENOENT},
}

func TestOpensOverNoLink(t *testing.T) {
	for _, dir := range []struct {
		path string
		open func(*Dir) (*os.File, error)
	}{
		{"alloc", (*Dir).Shared},
		{"web", func(d *Dir) (*os.File, error) { return d.Local("web") }},
		{"web/local", func(d *Dir) (*os.File, error) { return d.Local("web") }},
		{"web/secrets", func(d *Dir) (*os.File, error) { return d.Secrets("web", false) }},
		{"web/secrets", func(d *Dir) (*os.File, error) { return d.Secrets("web", true) }},
	} {
		for _, impostor := range impostors {
			t.Run(dir.path+" is a "+impostor.name, func(t *testing.T) {
				path := build(t)
				d, err := Open(path)
				must.NoError(t, err)
				defer d.Close()
				replace(t, filepath.Join(path, dir.path), impostor.put)
				_, err = dir.open(d)
				must.ErrorIs(t, err, impostor.err)
				must.ErrorContains(t, err, filepath.Join(path, dir.path))
			})
		}
	}
}

func TestSecretsAreNomadsTmpfs(t *testing.T) {
	needRoot(t)
	path := build(t)
	secrets := filepath.Join(path, "web/secrets")
	d, err := Open(path)
	must.NoError(t, err)
	defer d.Close()

	// What a task can make: the directory, and Nomad's marker in it.
	must.NoError(t, os.WriteFile(filepath.Join(secrets, ".nomad-mount"), nil, 0o600))
	_, err = d.Secrets("web", true)
	must.ErrorContains(t, err, "not the tmpfs that Nomad has mounted")
	dir, err := d.Secrets("web", false)
	must.NoError(t, err)
	must.NoError(t, dir.Close())

	// What Nomad has made, and what is left of it after a reboot.
	must.NoError(t, os.Chown(secrets, 0, 0))
	_, err = d.Secrets("web", true)
	must.ErrorContains(t, err, "not the tmpfs that Nomad has mounted")
	must.NoError(t, os.Chmod(secrets, 0o755))
	dir, err = d.Secrets("web", true)
	must.NoError(t, err)
	must.NoError(t, dir.Close())

	open777(t, secrets)
	if err := unix.Mount("tmpfs", secrets, "tmpfs", 0, ""); err != nil {
		t.Skipf("this machine mounts no tmpfs: %v", err)
	}
	t.Cleanup(func() { must.NoError(t, unix.Unmount(secrets, unix.MNT_DETACH)) })
	dir, err = d.Secrets("web", true)
	must.NoError(t, err)
	must.NoError(t, dir.Close())
}

func TestVolume(t *testing.T) {
	path := build(t)
	for _, file := range []string{"web/local/file", "web/secrets/token", "alloc/logs/web.stdout.0", "web/private/vault_token"} {
		must.NoError(t, os.WriteFile(filepath.Join(path, file), nil, 0o600))
	}
	for link, target := range map[string]string{
		"alloc/data/logs": "../logs", "alloc/data/up": "../..", "alloc/data/out": "/etc", "alloc/data/theirs": "../../other/secrets",
		"web/local/token": "../secrets/token", "web/local/inside": "file",
	} {
		must.NoError(t, os.Symlink(target, filepath.Join(path, link)))
	}
	d, err := Open(path)
	must.NoError(t, err)
	defer d.Close()
	for _, tc := range []struct {
		source string
		kind   Kind
		err    string
	}{
		{source: "local", kind: Plain},
		{source: "local/file", kind: Plain},
		{source: "local/inside", kind: Plain},
		{source: "tmp", kind: Plain},
		{source: "../alloc/data", kind: Plain},
		{source: "../alloc", kind: Shared},
		{source: "../alloc/", kind: Shared},
		{source: "../alloc/logs", kind: Logs},
		{source: "../alloc/logs/web.stdout.0", kind: Logs},
		{source: "../alloc/data/logs", kind: Logs},
		{source: "secrets", kind: Secrets},
		{source: "secrets/token", kind: Secrets},
		{source: "local/token", kind: Secrets},
		{source: ".", err: "this is the task's directory"},
		{source: "../web", err: "this is the task's directory"},
		{source: "local/..", err: "this is the task's directory"},
		{source: "..", err: "this is the allocation's directory"},
		{source: "../alloc/data/up", err: "this is the allocation's directory"},
		{source: "private", err: "that Nomad keeps to itself"},
		{source: "private/vault_token", err: "that Nomad keeps to itself"},
		{source: "../other", err: `directory of another task, "other"`},
		{source: "../other/local", err: `directory of another task, "other"`},
		{source: "../alloc/data/theirs", err: `directory of another task, "other"`},
		{source: "../..", err: "leads out of its directory"},
		{source: "../alloc/data/out", err: "leads out of its directory"},
		{source: "local/missing", err: "no such file or directory"},
	} {
		t.Run(tc.source, func(t *testing.T) {
			source, kind, err := d.Volume("web", tc.source)
			if tc.err != "" {
				must.ErrorContains(t, err, tc.err)
				return
			}
			must.NoError(t, err)
			must.Eq(t, tc.kind, kind)
			must.NoError(t, source.Close())
		})
	}
}

func TestCheckTask(t *testing.T) {
	for _, name := range []string{"web", "alloc2", "...", "a b"} {
		must.NoError(t, CheckTask(name))
	}
	for _, name := range []string{"alloc", ".", "..", "a/b", "../x"} {
		must.Error(t, CheckTask(name), must.Sprint(name))
	}
}

// Another driver's task may be called like the shared directory: its secrets are mounted in there.
func TestVolumeOfWhatIsMounted(t *testing.T) {
	needRoot(t)
	path := build(t)
	mounted := filepath.Join(path, "alloc/secrets")
	must.NoError(t, os.Mkdir(mounted, 0o700))
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, ""); err != nil {
		t.Skipf("this machine mounts no tmpfs: %v", err)
	}
	t.Cleanup(func() { must.NoError(t, unix.Unmount(mounted, unix.MNT_DETACH)) })
	d, err := Open(path)
	must.NoError(t, err)
	defer d.Close()
	_, _, err = d.Volume("web", "../alloc/secrets")
	must.ErrorContains(t, err, "something else is mounted there")
}

func TestWhereSeesRenames(t *testing.T) {
	path := build(t)
	d, err := Open(path)
	must.NoError(t, err)
	defer d.Close()
	inner := filepath.Join(path, "alloc/data/inner")
	must.NoError(t, os.Mkdir(inner, 0o700))
	source, err := openat(d.root, "alloc/data/inner", unix.O_PATH, 0)
	must.NoError(t, err)
	defer source.Close()
	must.NoError(t, os.Rename(inner, filepath.Join(path, "web/local/moved")))
	where, err := d.where(source)
	must.NoError(t, err)
	must.Eq(t, "web/local/moved", where)
	must.NoError(t, os.Remove(filepath.Join(path, "web/local/moved")))
	_, err = d.where(source)
	must.Error(t, err)
	must.True(t, strings.Contains(err.Error(), "deleted"), must.Sprint(err))
}
