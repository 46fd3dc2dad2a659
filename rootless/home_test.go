package rootless

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

// someone is a user other than root, if possible, that this process can act as, and whose home directory is empty.
func someone(t *testing.T) User {
	t.Helper()
	u := nobody
	if os.Geteuid() != 0 {
		var err error
		u, err = Self()
		must.NoError(t, err)
	}
	u.Home = filepath.Join(openDir(t), "home")
	must.NoError(t, os.Mkdir(u.Home, 0o700))
	must.NoError(t, os.Chown(u.Home, int(u.UID), int(u.GID)))
	return u
}

func TestFindAccount(t *testing.T) {
	root, f := FindAccount("root")
	must.True(t, root.IsRoot())
	must.Eq(t, finding.OK, f.Status)
	byUID, f := FindAccount("0")
	must.Eq(t, root, byUID)
	must.Eq(t, "root", f.Subject)

	u, f := FindAccount("no-such-user")
	must.Eq(t, Unknown, u)
	must.Eq(t, finding.Fail, f.Status)
	must.ErrorIs(t, f.Err(), ErrUnknownUser)
	must.Eq(t, []string{"useradd --create-home --shell /usr/sbin/nologin no-such-user"}, f.Remedy.Commands)
	must.False(t, f.Remedy.Safe)
	for _, name := range []string{"", "-G", "4000000000", "a b", "a;b", "Team", "über", "a/b", "a:b", "abcdefghijklmnopqrstuvwxyz0123456", "a\n"} {
		_, f := FindAccount(name)
		must.Eq(t, finding.Fail, f.Status, must.Sprint(name))
		must.SliceEmpty(t, f.Remedy.Commands, must.Sprint(name))
		must.NotEq(t, "", f.Remedy.Advice)
	}
}

func TestFindHome(t *testing.T) {
	needRoot(t)
	u := someone(t)
	must.Eq(t, finding.OK, u.FindHome().Status)
	must.Eq(t, finding.Skipped, User{Name: "root"}.FindHome().Status)

	check := func(u User, seen string) finding.Remedy {
		t.Helper()
		f := u.FindHome()
		must.Eq(t, finding.Fail, f.Status)
		must.StrContains(t, f.Seen, seen)
		must.False(t, f.Remedy.IsZero())
		return f.Remedy
	}
	must.NoError(t, os.Chmod(u.Home, 0o500))
	check(u, "is not open to its own user")
	must.NoError(t, os.Chown(u.Home, 0, 0))
	// Somebody else could put another directory in its place.
	must.SliceEmpty(t, check(u, u.Home+" is owned by root").Commands)

	at := func(home string) User { return User{Name: u.Name, UID: u.UID, GID: u.GID, Home: home} }
	missing := check(at("/usr/no-such-home"), "does not exist")
	must.Eq(t, []string{"install -d -o nobody -g 65534 -m 0700 /usr/no-such-home"}, missing.Commands)
	must.False(t, missing.Safe)
	must.StrContains(t, missing.Advice, "not mounted")
	must.SliceEmpty(t, check(at("/usr/no-such-home/nor-this"), "does not exist").Commands)
	must.SliceEmpty(t, check(at("/usr/share"), "is owned by root").Commands)
	share := at("/usr/share")
	share.Name = "share"
	foreign := check(share, "is owned by root")
	must.Eq(t, []string{"chown --no-dereference share: /usr/share"}, foreign.Commands)
	must.False(t, foreign.Safe)
	must.NotEq(t, "", foreign.Advice)
	check(at("/etc/passwd"), "is not a directory")
	check(at("/nonexistent"), "has no home directory")
	check(at(""), "has no home directory")
	check(at("home"), "has no home directory")
	must.Eq(t, finding.Warn, User{Name: "x", UID: Unknown.UID, GID: Unknown.GID, Home: "/home/x"}.FindHome().Status)

	closed := filepath.Join(openDir(t), "closed")
	must.NoError(t, os.MkdirAll(filepath.Join(closed, "home"), 0o700))
	check(at(filepath.Join(closed, "home")), "is out of the user's reach")
}

func TestOnlyRootChanges(t *testing.T) {
	must.True(t, OnlyRootChanges("/usr/share"))
	must.True(t, OnlyRootChanges("/"))
	must.True(t, OnlyRootChanges("/usr//share/../share/"))
	for _, relative := range []string{"", ".", "..", "usr/share"} {
		must.False(t, OnlyRootChanges(relative))
	}
	must.False(t, OnlyRootChanges("/usr/no-such-directory"))
	must.False(t, OnlyRootChanges("/etc/passwd"))
	must.False(t, OnlyRootChanges(openDir(t)))
	if os.Geteuid() == 0 {
		link := filepath.Join(t.TempDir(), "link")
		must.NoError(t, os.Symlink("/usr", link))
		must.False(t, OnlyRootChanges(link))
	}
}

func TestFindRuntimeDir(t *testing.T) {
	u := someone(t)
	must.Eq(t, finding.Skipped, u.FindRuntimeDir(false).Status)
	dir := u.Home
	must.Eq(t, finding.OK, u.findRuntimeDir(dir).Status)
	must.NoError(t, os.Chmod(dir, 0o755))
	f := u.findRuntimeDir(dir)
	must.Eq(t, finding.Fail, f.Status)
	must.StrContains(t, f.Seen, "mode 0755")
	must.StrContains(t, f.Remedy.Commands[0], "user@"+strconv.Itoa(int(u.UID))+".service")
	must.False(t, f.Remedy.Safe)
	must.StrContains(t, u.findRuntimeDir(dir+"/missing").Seen, "does not exist")
	other := u
	other.UID++
	must.StrContains(t, other.findRuntimeDir(dir).Seen, "owned by")
	must.StrContains(t, u.findRuntimeDir("/etc/passwd").Seen, "not a directory")
}

func TestSpace(t *testing.T) {
	here, err := SpaceAt(t.TempDir())
	must.NoError(t, err)
	below, err := SpaceAt(filepath.Join(t.TempDir(), "not/yet/there"))
	must.NoError(t, err)
	must.Eq(t, here.Total, below.Total)
	must.Positive(t, here.Free)

	const gib = 1 << 30
	for _, test := range []struct {
		space  Space
		status finding.Status
		seen   string
	}{
		{Space{Path: "/srv", Free: 5 * gib, Total: 10 * gib, FreeInodes: 5000, Inodes: 100000}, finding.OK, "5GiB of 10GiB free at /srv"},
		{Space{Free: 5 * gib, Total: 10 * gib}, finding.OK, "5GiB of 10GiB free"}, // btrfs
		{Space{Free: gib - 1, Total: 10 * gib}, finding.Warn, "free"},
		{Space{Free: 63 << 20, Total: 10 * gib}, finding.Fail, "63MiB of 10GiB"},
		{Space{Free: gib - 1, Total: 10 * gib, FreeInodes: 9, Inodes: 1000}, finding.Fail, "9 of 1000 inodes"},
		{Space{Free: 5 * gib, Total: 10 * gib, FreeInodes: 999, Inodes: 2000}, finding.Fail, "999 of 2000 inodes"},
		{Space{Free: 5 * gib, Total: 10 * gib, FreeInodes: 1000, Inodes: 200000}, finding.Warn, "1000 of 200000 inodes"},
		{Space{Free: 5 * gib, Total: 10 * gib, FreeInodes: 1000, Inodes: 100000}, finding.OK, "5GiB"},
	} {
		f := test.space.Find("space", "someone")
		must.Eq(t, test.status, f.Status)
		must.StrContains(t, f.Seen, test.seen)
		must.Eq(t, test.status == finding.OK, f.Remedy.IsZero())
	}
	must.NotEq(t, finding.Skipped, someone(t).FindSpace().Status)
}
