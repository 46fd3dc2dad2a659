package rootless

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func TestOpenRegular(t *testing.T) {
	self, err := Self()
	must.NoError(t, err)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must.NoError(t, os.WriteFile(in("log"), []byte("text"), 0o600))
	must.NoError(t, os.WriteFile(in("linked"), nil, 0o600))
	must.NoError(t, os.Link(in("linked"), in("other name")))
	must.NoError(t, os.Symlink("log", in("symlink")))
	must.NoError(t, unix.Mkfifo(in("fifo"), 0o600))

	f, err := self.OpenRegular(in("log"), os.O_RDWR)
	must.NoError(t, err)
	must.NoError(t, f.Close())

	for name, want := range map[string]string{
		"symlink":    "too many levels of symbolic links",
		"fifo":       "not a regular file",
		"linked":     "has 2 hard links",
		".":          "not a regular file",
		"is missing": "no such file",
	} {
		_, err := self.OpenRegular(in(name), os.O_RDONLY)
		must.ErrorContains(t, err, want)
		must.ErrorContains(t, err, in(name))
	}
	_, err = self.OpenRegular(in("log"), os.O_RDWR|os.O_TRUNC)
	must.ErrorContains(t, err, "neither create nor truncate")
	_, err = self.OpenRegular("/proc/self/cwd/files_test.go", os.O_RDONLY)
	must.ErrorIs(t, err, unix.ELOOP)
}

func TestOpenRegularOfAnother(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "root's")
	must.NoError(t, os.WriteFile(path, nil, 0o644))
	_, err := nobody.OpenRegular(path, os.O_RDONLY)
	must.ErrorContains(t, err, "owned by UID 0")
	must.NoError(t, os.Chmod(path, 0o600))
	_, err = nobody.OpenRegular(path, os.O_RDONLY)
	must.ErrorIs(t, err, os.ErrPermission)
}

func TestOpenBeneath(t *testing.T) {
	outside := t.TempDir()
	root := filepath.Join(outside, "root")
	must.NoError(t, os.MkdirAll(filepath.Join(root, "dir/sub"), 0o755))
	for link, target := range map[string]string{
		"inside":    "dir/sub",
		"dir/up":    "../dir",
		"dir/out":   "../../..",
		"absolute":  root,
		"magic":     "/proc/self/cwd",
		"dangling":  "nothing",
		"dir/twice": "up/out",
	} {
		must.NoError(t, os.Symlink(target, filepath.Join(root, link)))
	}
	for _, rel := range []string{"dir", "dir/sub", "inside", "dir/up/sub", "dir/../inside", "."} {
		f, err := OpenBeneath(root, rel)
		must.NoError(t, err, must.Sprint(rel))
		must.Eq(t, filepath.Join(root, rel), f.Name())
		must.NoError(t, f.Close())
	}
	for _, rel := range []string{"..", "dir/out", "dir/twice", "absolute", "magic", "/etc"} {
		_, err := OpenBeneath(root, rel)
		must.ErrorIs(t, err, ErrEscapes, must.Sprint(rel))
	}
	_, err := OpenBeneath(root, "dangling")
	must.ErrorIs(t, err, os.ErrNotExist)
}
