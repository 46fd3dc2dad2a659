package rootless

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// configured is a user with files in ~/.config/containers, on a host whose files are below the returned root. Paths of files
// start with "~/" or are the system's below its root.
func configured(t *testing.T, files map[string]string) (u User, root string) {
	t.Helper()
	u = someone(t)
	root = filepath.Join(filepath.Dir(u.Home), "root")
	must.NoError(t, os.Mkdir(root, 0o755))
	for path, text := range files {
		if rest, own := strings.CutPrefix(path, "~/"); own {
			path = u.own(rest)
		} else {
			path = filepath.Join(root, path)
		}
		must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return u, root
}

const (
	etc = "etc/containers/"
	usr = "usr/share/containers/"
)

func TestFindContainersConf(t *testing.T) {
	for _, test := range []struct {
		name   string
		files  map[string]string
		status finding.Status
		seen   string
	}{
		{"none", nil, finding.OK, "nothing"},
		{"harmless", map[string]string{usr + "containers.conf": "[engine]\nevents_logger = \"file\"\n", "~/containers.conf": "[containers]\nlog_size_max = 1\nuserns = \"auto\"\numask = \"0077\"\nannotations = []\nno_hosts = false\nlabel = true\nfuture = 1\n"}, finding.OK, "nothing"},
		{"cgroupfs", map[string]string{"~/containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\n"}, finding.Fail, `engine.cgroup_manager = "cgroupfs" in `},
		{"the system's cgroupfs", map[string]string{etc + "containers.conf.d/x.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\n"}, finding.Fail, "x.conf"},
		{"overruled", map[string]string{etc + "containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\n", "~/containers.conf.d/x.conf": "[engine]\ncgroup_manager = \"systemd\"\n"}, finding.OK, ""},
		{"no suffix", map[string]string{"~/containers.conf.d/x.conf.bak": "[engine"}, finding.OK, ""},
		{"no cgroups", map[string]string{"~/containers.conf": "[containers]\ncgroups = \"disabled\"\n"}, finding.Warn, `containers.cgroups = "disabled" in `},
		{"privileged", map[string]string{"~/containers.conf.d/x.conf": "[containers]\nprivileged = true\n"}, finding.Fail, "containers.privileged = true in "},
		{"altered", map[string]string{"~/containers.conf": "[containers]\nno_hosts = true\nvolumes = [\"/:/host\"]\n"}, finding.Warn, "containers.no_hosts in "},
		{"altered by the administrator", map[string]string{etc + "containers.conf": "[containers]\nno_hosts = true\n"}, finding.OK, ""},
		{"fails and alters", map[string]string{"~/containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\n[containers]\nenv = [\"A=b\"]\n"}, finding.Fail, "containers.env in "},
		{"broken", map[string]string{"~/containers.conf": "[containers]\nlabel = yes\n"}, finding.Fail, "containers.conf: toml: line 2 "},
		{"wrong type", map[string]string{"~/containers.conf": "[containers]\nprivileged = \"yes\"\n"}, finding.Fail, "incompatible types"},
		{"broken by the system", map[string]string{etc + "containers.conf": "["}, finding.Fail, etc + "containers.conf: toml: line 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, root := configured(t, test.files)
			f := u.findContainersConf(root)
			must.Eq(t, test.status, f.Status, must.Sprint(f.Seen))
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, test.status == finding.OK, f.Remedy.IsZero())
			must.Eq(t, test.status == finding.OK, f.Why == "")
			must.False(t, f.Remedy.Safe)
		})
	}
}

// What the remedy writes is read last and mends all of it.
func TestContainersConfOverride(t *testing.T) {
	needRoot(t)
	u, root := configured(t, map[string]string{
		"~/containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\n[containers]\nprivileged = true\ncgroups = \"disabled\"\n",
	})
	must.NoError(t, os.Chown(filepath.Dir(u.own("")), int(u.UID), int(u.GID)))
	must.NoError(t, os.Chown(u.own(""), int(u.UID), int(u.GID)))
	f := u.findContainersConf(root)
	must.Len(t, 1, f.Remedy.Commands)
	for range 2 {
		out, err := exec.Command("sh", "-c", f.Remedy.Commands[0]).CombinedOutput()
		must.NoError(t, err, must.Sprint(string(out)))
	}
	uid, _ := ownerOf(t, u.own("containers.conf.d/99-nomad-driver-podman.conf"))
	must.Eq(t, u.UID, uid)
	must.Eq(t, finding.OK, u.findContainersConf(root).Status)

	must.NoError(t, os.WriteFile(u.own("containers.conf.d/zz.conf"), []byte("[containers]\nprivileged = true\n"), 0o644))
	late := u.findContainersConf(root)
	must.SliceEmpty(t, late.Remedy.Commands)
	must.StrContains(t, late.Remedy.Advice, "no other file can overrule that one")
}

func TestFindStorageConf(t *testing.T) {
	for _, test := range []struct {
		name   string
		files  map[string]string
		status finding.Status
		seen   string // "HOME" stands for the user's
	}{
		{"none", nil, finding.OK, "the driver that podman chooses at HOME/.local/share/containers/storage"},
		{"the system's", map[string]string{etc + "storage.conf": "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/lib/x\"\n"}, finding.OK, "overlay at HOME/.local/share/containers/storage, by "},
		{"the distribution's", map[string]string{usr + "storage.conf": "[storage]\ndriver = \"btrfs\"\n"}, finding.OK, "btrfs at "},
		{"for all users", map[string]string{etc + "storage.conf": "[storage]\nrootless_storage_path = \"$HOME/$USER-$UID\"\n"}, finding.OK, " at HOME/NAME-UID, by "},
		{"own", map[string]string{etc + "storage.conf": "[storage]\ndriver = \"vfs\"\n", "~/storage.conf": "[storage]\ndriver = \"overlay\"\ngraphroot = \"$HOME/storage\"\n"}, finding.OK, "overlay at HOME/storage, by HOME/.config/containers/storage.conf"},
		{"replaced", map[string]string{etc + "storage.conf": "[storage]\ndriver = \"overlay\"\n", "~/storage.conf": "\n"}, finding.OK, "the driver that podman chooses at "},
		{"vfs", map[string]string{"~/storage.conf": "[storage]\ndriver = \"vfs\"\n"}, finding.Warn, "vfs at "},
		{"no place", map[string]string{"~/storage.conf": "[storage]\ngraphroot = \"/proc/no/such\"\n"}, finding.Fail, "graphroot /proc/no/such in "},
		{"relative", map[string]string{"~/storage.conf": "[storage]\ngraphroot = \"storage\"\n"}, finding.Fail, "not an absolute path"},
		{"broken", map[string]string{"~/storage.conf": "[storage\n"}, finding.Warn, "storage.conf: toml: line 2: "},
		{"the system's broken", map[string]string{etc + "storage.conf": "[storage\n"}, finding.Fail, "storage.conf: toml: line 2: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, root := configured(t, test.files)
			f := u.findStorageConf(root)
			must.Eq(t, test.status, f.Status, must.Sprint(f.Seen))
			must.StrContains(t, f.Seen, strings.NewReplacer("HOME", u.Home, "NAME", u.Name, "UID", strconv.Itoa(int(u.UID))).Replace(test.seen))
			must.Eq(t, test.status == finding.OK, f.Remedy.IsZero())
			must.False(t, f.Remedy.Safe)
		})
	}
}

func TestFindRegistriesConf(t *testing.T) {
	const v1 = "[registries.search]\nregistries = [\"docker.io\"]\n"
	for _, test := range []struct {
		name   string
		files  map[string]string
		status finding.Status
		seen   string
	}{
		{"none", nil, finding.OK, "images need their full names, but for 0 aliases"},
		{"aliases", map[string]string{etc + "registries.conf.d/shortnames.conf": "[aliases]\n\"redis\" = \"docker.io/library/redis\"\n"}, finding.OK, "but for 1 aliases"},
		{"search", map[string]string{etc + "registries.conf.d/x.conf": "unqualified-search-registries = [\"a.example\", \"b.example\"]\n[[registry]]\nlocation = \"a.example\"\n"}, finding.OK, "looked for at a.example, b.example"},
		{"own replaces all", map[string]string{etc + "registries.conf.d/x.conf": "broken", "~/registries.conf": "unqualified-search-registries = [\"own.example\"]\n"}, finding.OK, "looked for at own.example"},
		{"broken", map[string]string{"~/registries.conf": "[[registry]\n"}, finding.Fail, "registries.conf: toml: line 2: "},
		{"broken fragment", map[string]string{"~/registries.conf.d/a.conf": "x"}, finding.Fail, "a.conf: toml: "},
		{"version 1", map[string]string{etc + "registries.conf": v1}, finding.Warn, "version 1"},
		{"version 1 in a fragment", map[string]string{etc + "registries.conf.d/x.conf": v1}, finding.Fail, "version 1"},
		{"mixed", map[string]string{etc + "registries.conf": "unqualified-search-registries = [\"a\"]\n" + v1}, finding.Fail, "version 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, root := configured(t, test.files)
			f := u.findRegistriesConf(root)
			must.Eq(t, test.status, f.Status, must.Sprint(f.Seen))
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, test.status == finding.OK, f.Remedy.IsZero())
		})
	}
}

func TestBroken(t *testing.T) {
	u, root := configured(t, map[string]string{"~/registries.conf": "=", etc + "containers.conf": "="})
	containers, registries := u.findContainersConf(root).Remedy, u.findRegistriesConf(root).Remedy
	must.Eq(t, []string{"mv --backup=numbered -- " + root + "/etc/containers/containers.conf " + root + "/etc/containers/containers.conf.broken"}, containers.Commands)
	must.Eq(t, []string{u.command("mv", "--backup=numbered", "--", u.own("registries.conf"), u.own("registries.conf.broken"))}, registries.Commands)
}

// What nobody could look at is not broken.
func TestUnseen(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	_, err := lookWithin(time.Millisecond, someone(t), func() (int, error) { <-block; return 0, nil })
	must.ErrorIs(t, err, os.ErrDeadlineExceeded)
	nobodyKnows := User{Name: "x", UID: Unknown.UID, GID: Unknown.GID, Home: "/home/x"}
	for _, f := range []finding.Finding{
		nobody.broken(idStorage, &fault{settings{path: "/x"}, err}),
		nobodyKnows.FindContainersConf(), nobodyKnows.FindStorageConf(), nobodyKnows.FindRegistriesConf(), nobodyKnows.FindSpace(),
	} {
		must.Eq(t, finding.Warn, f.Status, must.Sprint(f.ID))
		must.StrContains(t, f.Seen, "cannot be told")
		must.True(t, f.Remedy.IsZero())
	}
	must.True(t, nobodyKnows.inUse())
}

// Whatever a user puts in the place of a file, it is read with the user's rights, and not for ever.
func TestHostileSettings(t *testing.T) {
	u, root := configured(t, map[string]string{"~/containers.conf": ""})
	path := u.own("containers.conf")
	must.NoError(t, os.Chown(filepath.Dir(path), int(u.UID), int(u.GID)))
	secret := filepath.Join(t.TempDir(), "secret")
	must.NoError(t, os.WriteFile(secret, []byte("secret = "), 0o600))
	for name, test := range map[string]struct {
		make func() error
		want string
	}{
		"FIFO":       {func() error { return unix.Mkfifo(path, 0o666) }, "not a regular file"},
		"directory":  {func() error { return os.Mkdir(path, 0o755) }, "not a regular file"},
		"magic link": {func() error { return os.Symlink("/proc/self/fd/0", path) }, "too many levels of symbolic links"},
		"too long":   {func() error { return os.WriteFile(path, make([]byte, maxSettings+1), 0o644) }, "longer than"},
		"escapes":    {func() error { return os.WriteFile(path, []byte("\"\x1b[31m\" ="), 0o644) }, "line 1"},
	} {
		must.NoError(t, os.Remove(path), must.Sprint(name))
		must.NoError(t, test.make(), must.Sprint(name))
		f := u.findContainersConf(root)
		must.Eq(t, finding.Fail, f.Status, must.Sprint(name))
		must.StrContains(t, f.Seen, test.want)
		must.StrNotContains(t, f.Seen, "\x1b")
	}
	must.NoError(t, os.Remove(path))
	must.NoError(t, os.Symlink("/proc/self/cwd", path+".d"))
	must.StrContains(t, u.findContainersConf(root).Seen, "too many levels of symbolic links")
	must.NoError(t, os.Remove(path+".d"))
	must.NoError(t, os.WriteFile(path, nil, 0o644))
	odd := u.own("registries.conf.d/\x1b[31m.conf")
	must.NoError(t, os.MkdirAll(filepath.Dir(odd), 0o755))
	must.NoError(t, os.WriteFile(odd, []byte("="), 0o644))
	f := u.findRegistriesConf(root)
	must.StrContains(t, f.Seen, "/ [31m.conf: toml: ")
	must.SliceEmpty(t, f.Remedy.Commands)
	if os.Geteuid() == 0 {
		must.NoError(t, os.Remove(path))
		must.NoError(t, os.Symlink(secret, path))
		must.StrContains(t, u.findContainersConf(root).Seen, "permission denied")
	}

	must.NoError(t, os.Remove(path))
	must.NoError(t, os.MkdirAll(path+".d", 0o755))
	for i := range maxFragments + 1 {
		must.NoError(t, os.WriteFile(filepath.Join(path+".d", strconv.Itoa(i)+".conf"), nil, 0o644))
	}
	must.StrContains(t, u.findContainersConf(root).Seen, "more than 100 files")
}

// A parser that a user's file could have take all memory, or all stack, does not get that file.
func TestOwnSettingsAreBounded(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		status finding.Status
	}{
		"brackets":    {"a = " + strings.Repeat("[", maxSettings-4), finding.Warn},
		"braces":      {"a = " + strings.Repeat("{a=", maxNesting), finding.Warn},
		"dots":        {strings.Repeat("a.", maxNesting) + "a = 1", finding.Warn},
		"both":        {"a = " + strings.Repeat("[\n{a.a.a.a.a.a.a.a.a.a = ", maxNesting/10), finding.Warn},
		"keys":        {"[" + strings.Repeat("a", maxOwnSettings) + "]\nb = 1", finding.Warn},
		"in a string": {"a = '''\n#''', b = " + strings.Repeat("[", maxOwnSettings), finding.Warn},
		"comments":    {strings.Repeat(" # label = false [{a.b.c='x'}]\n", 10_000) + "[containers]\nfuture = 1\n", finding.OK},
		"just enough": {"a = [" + strings.Repeat("{b.c = 1},\n", maxNesting/2-1) + "1]", finding.OK},
	} {
		t.Run(name, func(t *testing.T) {
			u, root := configured(t, map[string]string{"~/containers.conf": test.text})
			f := u.findContainersConf(root)
			must.Eq(t, test.status, f.Status, must.Sprint(f.Seen))
			if test.status == finding.Warn {
				must.StrContains(t, f.Seen, "containers.conf: nobody could look: it says more than is read of a user's own file")
				must.True(t, f.Remedy.IsZero())
			}
		})
	}
	u, root := configured(t, map[string]string{etc + "registries.conf": strings.Repeat("[[registry]]\nlocation = \"a\"\n", 1000)})
	must.Eq(t, finding.OK, u.findRegistriesConf(root).Status, must.Sprint("the administrator's"))
}

func TestLinkedSettings(t *testing.T) {
	u, root := configured(t, map[string]string{"~/storage.conf": ""})
	path := u.own("storage.conf")
	must.NoError(t, os.Rename(path, u.own("elsewhere")))
	must.NoError(t, os.Symlink("elsewhere", path))
	must.Eq(t, finding.OK, u.findStorageConf(root).Status)
}
