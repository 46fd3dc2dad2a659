package rootless

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

var (
	rootUser = User{Name: "root"}
	// another is a user who owns nothing either.
	another = User{Name: "another", UID: 65533, GID: 65533}
)

// hostTree is a directory that root alone can change. In it are
//
//	closed/      root's, 0700, with inner/ 0755 and the file secret
//	open/        root's, 0755, with inner/
//	theirs/      nobody's, with plain/inner/
//	group/       root's, writable for group nogroup
//	sticky/      root's, writable for everybody, sticky
//
// and links of root's.
func hostTree(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("/run", "rootless") // /tmp is not root's alone
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	must.NoError(t, os.Chmod(dir, 0o755))
	must.True(t, OnlyRootChanges(dir))
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"closed/inner", "open/inner", "theirs/plain/inner", "group", "sticky"} {
		must.NoError(t, os.MkdirAll(in(name), 0o755))
	}
	must.NoError(t, os.WriteFile(in("closed/secret"), nil, 0o644))
	must.NoError(t, os.Chmod(in("closed"), 0o700))
	for _, name := range []string{"theirs", "theirs/plain", "theirs/plain/inner"} {
		must.NoError(t, os.Chown(in(name), int(nobody.UID), int(nobody.GID)))
	}
	must.NoError(t, os.Chown(in("group"), 0, int(nobody.GID)))
	must.NoError(t, os.Chmod(in("group"), 0o775))
	must.NoError(t, os.Chmod(in("sticky"), 0o777|os.ModeSticky))
	return dir
}

func TestOpenHostPath(t *testing.T) {
	dir := hostTree(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	link := func(target, name string) { must.NoError(t, os.Symlink(target, in(name))) }
	link(in("closed/inner"), "absolute")
	link("open/../closed/./inner/", "relative")
	link("relative", "twice")
	link("loop", "loop")
	link(in("theirs/plain"), "to-theirs")
	link("theirs/plain/../../closed", "up-from-theirs")
	link("theirs/to-open/inner", "over-theirs")
	link("../closed/inner", "theirs/to-closed")
	link("../open", "theirs/to-open")
	link("plain", "theirs/to-plain")
	link("/proc/self/root", "theirs/to-magic")
	link("../closed/inner", "group/link")
	link("../closed/inner", "sticky/link")
	must.NoError(t, os.Lchown(in("theirs/to-plain"), int(nobody.UID), int(nobody.GID)))
	must.NoError(t, unix.Mkfifo(in("theirs/fifo"), 0o600))
	// What root has closed in a directory of theirs, they can rename into a path that leads through it.
	must.NoError(t, os.MkdirAll(in("theirs/roots/inner"), 0o755))
	must.NoError(t, os.Chmod(in("theirs/roots"), 0o700))
	for i := range maxLinks {
		link(fmt.Sprintf("chain-%d", i), fmt.Sprintf("chain-%d", i+1))
	}
	link("open", "chain-0") // 41 links from chain-40 on

	for _, test := range []struct {
		user            User
		path, is        string // what it leads to
		says, thenAgain string
	}{
		// Where root alone decides.
		{user: nobody, path: "open/inner", is: "open/inner"},
		{user: nobody, path: "closed/inner", is: "closed/inner"},
		{user: nobody, path: "closed/secret", is: "closed/secret"},
		{user: nobody, path: "open/./inner/", is: "open/inner"},
		{user: nobody, path: "open/../closed/inner", is: "closed/inner"},
		{user: nobody, path: "absolute", is: "closed/inner"},
		{user: nobody, path: "relative", is: "closed/inner"},
		{user: nobody, path: "twice", is: "closed/inner"},
		{user: rootUser, path: "twice", is: "closed/inner"},
		{user: nobody, path: "chain-39/inner", is: "open/inner"},
		{user: nobody, path: "chain-40/inner", says: "too many levels of symbolic links"},
		{user: nobody, path: "loop", says: "too many levels of symbolic links"},
		{user: nobody, path: "missing", says: "no such file"},
		{user: nobody, path: "closed/secret/x", says: "not a directory"},
		{user: nobody, path: "theirs", is: "theirs"},
		{user: nobody, path: "sticky", is: "sticky"},

		// Where others do: without links, as the user.
		{user: nobody, path: "theirs/plain/inner", is: "theirs/plain/inner"},
		{user: another, path: "theirs/plain/inner", is: "theirs/plain/inner"},
		{user: rootUser, path: "theirs/plain/inner", is: "theirs/plain/inner"},
		{user: nobody, path: "to-theirs/inner", is: "theirs/plain/inner"},
		{user: nobody, path: "theirs/fifo", is: "theirs/fifo"},
		{user: nobody, path: "theirs/roots", is: "theirs/roots"},
		{user: nobody, path: "theirs/roots/inner", says: "theirs/roots/inner: permission denied to host user nobody"},
		{user: rootUser, path: "theirs/roots/inner", is: "theirs/roots/inner"},
		{user: nobody, path: "theirs/to-closed", says: "permission denied"},
		{user: rootUser, path: "theirs/to-closed", says: "host user nobody can change what is in " + in("theirs")},
		{user: nobody, path: "group/link", says: "group nogroup can change what is in " + in("group")},
		{user: rootUser, path: "group/link", says: "group nogroup can change"},
		{user: nobody, path: "sticky/link", says: "everybody can change"},
		{user: rootUser, path: "sticky/link", says: "everybody can change"},
		{user: rootUser, path: "up-from-theirs/inner", says: in("theirs/plain") + "/.. is a way up that root does not follow"},

		// Links that lead where the user gets by themselves.
		{user: nobody, path: "theirs/to-open/inner", is: "open/inner"},
		{user: nobody, path: "theirs/to-plain", is: "theirs/plain"},
		{user: another, path: "theirs/to-plain/inner", is: "theirs/plain/inner"},
		{user: nobody, path: "over-theirs", is: "open/inner"},
		{user: rootUser, path: "theirs/to-open/inner", says: "is a symbolic link that root does not follow"},
		{user: rootUser, path: "over-theirs", says: in("theirs/to-open") + " is a symbolic link"},
		{user: nobody, path: "up-from-theirs/inner", says: "permission denied"},
		{user: nobody, path: "theirs/to-magic/etc", says: "too many levels of symbolic links"},
		{user: rootUser, path: "theirs/to-magic/etc", says: "is a symbolic link that root does not follow"},
	} {
		t.Run(test.user.Name+" "+test.path, func(t *testing.T) {
			f, err := test.user.OpenHostPath(dir + "/" + test.path)
			if test.says != "" {
				must.ErrorContains(t, err, test.says)
				return
			}
			must.NoError(t, err)
			defer f.Close()
			must.Eq(t, dir+"/"+test.path, f.Name())
			got, err := f.Stat()
			must.NoError(t, err)
			want, err := os.Lstat(in(test.is))
			must.NoError(t, err)
			must.True(t, os.SameFile(want, got), must.Sprintf("%s is not %s", test.path, test.is))
		})
	}
}

func TestOpenHostPathElsewhere(t *testing.T) {
	needRoot(t)
	for _, test := range []struct {
		user       User
		path, says string
	}{
		{nobody, "/", ""},
		{rootUser, "/dev/null", ""},
		{nobody, "/proc", ""}, // a mount point
		{rootUser, "/proc/self/root/etc", "every process can change what is in /proc"},
		{nobody, "/proc/self/root/etc", "too many levels of symbolic links"},
		{nobody, "/proc/self/fd/0", "too many levels of symbolic links"},
		{nobody, "relative", "not an absolute path"},
		{nobody, "", "not an absolute path"},
	} {
		f, err := test.user.OpenHostPath(test.path)
		if test.says == "" {
			must.NoError(t, err, must.Sprint(test.path))
			must.NoError(t, f.Close())
			continue
		}
		must.ErrorContains(t, err, test.says)
	}
}

// The whole sentence, and what it wraps.
func TestOpenHostPathSays(t *testing.T) {
	dir := hostTree(t)
	must.NoError(t, os.Symlink("../closed/inner", dir+"/theirs/data"))
	_, err := nobody.OpenHostPath(dir + "/theirs/data")
	must.ErrorIs(t, err, fs.ErrPermission)
	must.EqError(t, err, dir+"/theirs/data is a symbolic link that root does not follow, since host user nobody can change what is in "+
		dir+"/theirs; make that directory root's and writable to nobody else, or have the agent's configuration (host_volume) name the place itself; "+
		"and host user nobody does not get there without root: permission denied")
}

// Whatever a host user swaps, and when, nothing that is closed to them is opened.
func TestOpenHostPathRace(t *testing.T) {
	dir := hostTree(t)
	var closed unix.Stat_t
	must.NoError(t, unix.Stat(dir+"/closed/inner", &closed))
	must.NoError(t, os.Mkdir(dir+"/theirs/roots", 0o700))
	must.NoError(t, os.Rename(dir+"/closed/inner", dir+"/theirs/roots/inner"))
	must.NoError(t, os.Symlink("roots", dir+"/theirs/link"))

	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		must.NoError(t, nobody.Do(func() error {
			for {
				for _, other := range []string{"roots", "link"} {
					select {
					case <-stop:
						return nil
					default:
					}
					_ = unix.Renameat2(unix.AT_FDCWD, dir+"/theirs/plain", unix.AT_FDCWD, dir+"/theirs/"+other, unix.RENAME_EXCHANGE)
				}
			}
		}))
	})
	opened, refused := 0, 0
	for opened < 300 || refused < 300 {
		f, err := nobody.OpenHostPath(dir + "/theirs/plain/inner")
		if err != nil {
			refused++
			continue
		}
		opened++
		st, err := f.Stat()
		must.NoError(t, err)
		sys, ok := st.Sys().(*syscall.Stat_t)
		must.True(t, ok)
		must.NotEq(t, closed.Ino, sys.Ino)
		must.NoError(t, f.Close())
	}
	close(stop)
	swaps.Wait()
}
