package rootless

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// nobody owns nothing on any system, which suits tests.
var nobody = User{Name: "nobody", UID: 65534, GID: 65534}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to act as another user")
	}
}

// openDir is a directory that every user may write to, with parents that all may pass.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rootless")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	must.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
	return dir
}

func ownerOf(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	st, err := os.Stat(path)
	must.NoError(t, err)
	sys, ok := st.Sys().(*syscall.Stat_t)
	must.True(t, ok)
	return sys.Uid, sys.Gid
}

func TestDo(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	path := filepath.Join(dir, "file")
	must.NoError(t, nobody.Do(func() error {
		groups, err := unix.Getgroups()
		must.NoError(t, err)
		must.Eq(t, []int{65534}, groups)
		return os.WriteFile(path, nil, 0o600)
	}))
	uid, gid := ownerOf(t, path)
	must.Eq(t, 65534, uid)
	must.Eq(t, 65534, gid)
}

func TestDoHasTheUsersRightsOnly(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "root's")
	must.NoError(t, os.WriteFile(path, nil, 0o600))
	err := nobody.Do(func() error {
		_, err := os.ReadFile(path)
		return err
	})
	must.ErrorIs(t, err, os.ErrPermission)
}

func TestDoLeavesOtherGoroutinesAlone(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name := filepath.Join(dir, string(rune('A'+i)))
			err := nobody.Do(func() error {
				// What fn starts runs on threads of its own, as root.
				started := make(chan error)
				go func() { started <- os.WriteFile(name+"-root", nil, 0o600) }()
				return errors.Join(os.WriteFile(name+"-nobody", nil, 0o600), <-started)
			})
			must.NoError(t, err)
			must.NoError(t, os.WriteFile(name+"-after", nil, 0o600))
			for suffix, want := range map[string]uint32{"-nobody": 65534, "-root": 0, "-after": 0} {
				uid, gid := ownerOf(t, name+suffix)
				must.Eq(t, want, uid, must.Sprint(name+suffix))
				must.Eq(t, want, gid, must.Sprint(name+suffix))
			}
		})
	}
	wg.Wait()
	must.Eq(t, 0, unix.Geteuid())
}

func TestDoRefusesUnknown(t *testing.T) {
	must.ErrorContains(t, Unknown.Do(func() error { return nil }), "unknown host user")
	must.False(t, Unknown.IsRoot())
}

func TestDialUnixHasTheUsersCredentials(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openDir(t), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must.NoError(t, err)
	defer listener.Close()
	must.NoError(t, os.Chmod(path, 0o666))

	conn, err := nobody.DialUnix(context.Background(), path)
	must.NoError(t, err)
	defer conn.Close()
	accepted, err := listener.AcceptUnix()
	must.NoError(t, err)
	defer accepted.Close()
	raw, err := accepted.SyscallConn()
	must.NoError(t, err)
	must.NoError(t, raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		must.NoError(t, err)
		must.Eq(t, 65534, peer.Uid)
		must.Eq(t, 65534, peer.Gid)
	}))

	must.NoError(t, os.Chmod(path, 0o600))
	_, err = nobody.DialUnix(context.Background(), path)
	must.ErrorIs(t, err, os.ErrPermission)
}

func TestLookup(t *testing.T) {
	_, err := Lookup("no-such-user")
	must.ErrorIs(t, err, ErrUnknownUser)
	must.ErrorContains(t, err, `"no-such-user"`)
	_, err = LookupUID(4000000000)
	must.ErrorIs(t, err, ErrUnknownUser)
	root, err := Lookup("root")
	must.NoError(t, err)
	must.True(t, root.IsRoot())
	must.Eq(t, "/run/user/0", root.RuntimeDir())
}
