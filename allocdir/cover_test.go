package allocdir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func TestCover(t *testing.T) {
	needRoot(t)
	path := build(t)
	target := filepath.Join(t.TempDir(), "target")
	must.NoError(t, os.WriteFile(target, []byte("kept"), 0o600))
	link := filepath.Join(path, "alloc/logs/web.stdout.0")
	must.NoError(t, os.Symlink(target, link))
	must.NoError(t, os.WriteFile(filepath.Join(path, "alloc/logs/web.stderr.0"), []byte("stderr"), 0o600))

	if err := Cover(path); errors.Is(err, unix.EPERM) {
		t.Skipf("this machine mounts nothing: %v", err)
	} else {
		must.NoError(t, err)
	}
	t.Cleanup(func() { must.NoError(t, Uncover(path)) })
	must.NoError(t, Cover(path)) // once is enough

	_, err := os.ReadFile(link)
	must.ErrorIs(t, err, unix.ELOOP)
	must.ErrorIs(t, os.Chmod(link, 0o777), unix.ELOOP)
	text, err := os.ReadFile(filepath.Join(path, "alloc/logs/web.stderr.0"))
	must.NoError(t, err)
	must.Eq(t, "stderr", string(text))

	must.NoError(t, Uncover(path))
	text, err = os.ReadFile(link)
	must.NoError(t, err)
	must.Eq(t, "kept", string(text))
	must.NoError(t, Uncover(path))
	must.NoError(t, os.RemoveAll(path))
	must.NoError(t, Cover(path)) // Nomad has removed it
	must.NoError(t, Uncover(path))
}
