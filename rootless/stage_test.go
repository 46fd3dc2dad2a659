package rootless

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// The tests below make real mounts. This test binary runs them in a mount namespace of its own (see TestStage), where
// it stands for PID 1.
const inNamespace = "ROOTLESS_TEST_IN_NAMESPACE"

// TestStage runs TestInNamespace… in new mount and PID namespaces.
func TestStage(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", os.Args[0], "-test.run=^TestInNamespace", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "TestInNamespace") {
		t.Skipf("this machine makes no namespaces: %s", out)
	}
	t.Logf("%s", out)
	must.NoError(t, err)
}

func needNamespace(t *testing.T) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestStage, in a mount namespace")
	}
	mount(t, "tmpfs", "/run", "mode=755")
}

// mount mounts a new file system until the test ends.
func mount(t *testing.T, kind, path, options string) {
	t.Helper()
	must.NoError(t, unix.Mount(kind, path, kind, 0, options))
	t.Cleanup(func() { must.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) })
}

// strangers are other users than nobody, with nobody's group.
var strangers = map[string]*syscall.Credential{
	"primary group":       {Uid: 1234, Gid: nobody.GID},
	"supplementary group": {Uid: 1234, Gid: 1234, Groups: []uint32{nobody.GID}},
	"root's group":        {Uid: 1234, Gid: 0},
}

// run runs a program with these credentials, and with a file as descriptor 3. It returns what the program printed.
func run(who *syscall.Credential, file *os.File, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// source is a directory with a file that only root reaches.
func source(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "mode=777")
	must.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("secret"), 0o600))
	must.NoError(t, os.Chmod(filepath.Dir(dir), 0o700))
	f, err := OpenBeneath(dir, ".")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, f.Close()) })
	return f
}

func (u User) readFile(path string) (text string, err error) {
	err = u.Do(func() error {
		data, err := os.ReadFile(path)
		text = string(data)
		return err
	})
	return text, err
}

func mountsBelow(t *testing.T, dir string) int {
	t.Helper()
	info, err := os.ReadFile("/proc/self/mountinfo")
	must.NoError(t, err)
	return strings.Count(string(info), " "+dir)
}

func TestInNamespaceStage(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	must.NoError(t, os.Chmod(filepath.Join(dir.Name(), "token"), 0o644))
	must.Eq(t, finding.OK, nobody.FindStaging().Status)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "local", Source: dir})
	must.NoError(t, err)
	must.Eq(t, finding.OK, nobody.FindStaging().Status)

	text, err := nobody.readFile(filepath.Join(path, "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", text)
	for name, who := range strangers {
		for _, dir := range []string{filepath.Dir(filepath.Dir(path)), filepath.Dir(path), path} {
			out, err := run(who, nil, "ls", dir)
			must.Error(t, err, must.Sprint(name))
			must.StrContains(t, out, "Permission denied", must.Sprint(name))
		}
	}
	must.ErrorIs(t, nobody.Do(func() error { return os.Mkdir(filepath.Join(path, "..", "new"), 0o700) }), os.ErrPermission)
	must.NoError(t, os.WriteFile(filepath.Join(path, "new"), nil, 0o600))

	must.NoError(t, stage.Close())
	must.NoError(t, stage.Close())
	must.Eq(t, 0, mountsBelow(t, stageRoot))
	must.DirNotExists(t, stage.dir)
	must.FileExists(t, filepath.Join(dir.Name(), "token"))
}

func TestInNamespaceStageReadOnlyFile(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	file, err := OpenBeneath(dir.Name(), "token")
	must.NoError(t, err)
	defer file.Close()
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "token", Source: file, ReadOnly: true})
	must.NoError(t, err)
	must.ErrorIs(t, os.WriteFile(path, nil, 0o600), unix.EROFS)
	_, err = stage.Add(StageMount{Name: "../token", Source: file})
	must.ErrorContains(t, err, "not a file name")
	_, err = stage.Add(StageMount{Name: "token", Source: file})
	must.ErrorIs(t, err, os.ErrExist)
	must.NoError(t, stage.Close())
	text, err := os.ReadFile(filepath.Join(dir.Name(), "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", string(text))
}

func TestInNamespaceStageIDMapped(t *testing.T) {
	needNamespace(t)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	dir := source(t)
	must.NoError(t, os.WriteFile(filepath.Join(dir.Name(), "group"), []byte("for root's group"), 0o640))
	path, err := stage.Add(StageMount{Name: "secrets", Source: dir, IDMapRoot: true})
	if err != nil {
		// The other way out that Add promises.
		must.ErrorIs(t, err, ErrIDMapUnsupported)
		must.NoError(t, stage.Close())
		t.Skipf("this kernel: %v", err)
	}
	text, err := nobody.readFile(filepath.Join(path, "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", text)
	// Users of the container have root's group there, which is nobody's here. Outside, a stranger who has it finds no way.
	mounted, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	must.NoError(t, err)
	defer mounted.Close()
	text, err = run(strangers["primary group"], mounted, "cat", "/proc/self/fd/3/group")
	must.NoError(t, err)
	must.Eq(t, "for root's group", text)
	for name, who := range strangers {
		out, err := run(who, nil, "cat", filepath.Join(path, "group"))
		must.Error(t, err, must.Sprint(name))
		must.StrContains(t, out, "Permission denied", must.Sprint(name))
	}
	must.Eq(t, unix.ST_RDONLY|unix.ST_NOSUID|unix.ST_NODEV, flags(t, path))
	must.NoError(t, stage.Close())
}

// flags are those of the mount at path that keep rights from it.
func flags(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Statfs_t
	must.NoError(t, unix.Statfs(path, &st))
	return st.Flags & (unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV)
}

// A program that a task has made set-user-ID does not do as root in the stage what its host user wants.
func TestInNamespaceStageLendsNoRights(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	below := filepath.Join(dir.Name(), "below")
	must.NoError(t, os.Mkdir(below, 0o777))
	mount(t, "tmpfs", below, "mode=777")
	program, err := exec.LookPath("id")
	must.NoError(t, err)
	text, err := os.ReadFile(program)
	must.NoError(t, err)
	for _, path := range []string{filepath.Join(dir.Name(), "id"), filepath.Join(below, "id")} {
		must.NoError(t, os.WriteFile(path, text, 0o755))
		must.NoError(t, os.Chmod(path, 0o755|os.ModeSetuid))
	}
	file, err := OpenBeneath(dir.Name(), "id")
	must.NoError(t, err)
	defer file.Close()
	for user, lacks := range map[User]int64{nobody: unix.ST_NOSUID | unix.ST_NODEV, {Name: "root"}: 0} {
		stage, err := NewStage(user, "task")
		must.NoError(t, err)
		whole, err := stage.Add(StageMount{Name: "dir", Source: dir})
		must.NoError(t, err)
		single, err := stage.Add(StageMount{Name: "id", Source: file})
		must.NoError(t, err)
		readOnly, err := stage.Add(StageMount{Name: "read-only", Source: dir, ReadOnly: true})
		must.NoError(t, err)
		must.Eq(t, lacks|unix.ST_RDONLY, flags(t, readOnly))
		for path, program := range map[string]string{whole: whole + "/id", whole + "/below": whole + "/below/id", single: single} {
			must.Eq(t, lacks, flags(t, path), must.Sprintf("%s of %s", path, user))
			if !user.IsRoot() {
				out, err := run(&syscall.Credential{Uid: user.UID, Gid: user.GID}, nil, program, "-u")
				must.NoError(t, err)
				must.Eq(t, strconv.Itoa(int(user.UID)), out, must.Sprint(program))
			}
		}
		must.NoError(t, stage.Close())
	}
}

func TestInNamespaceStageReadOnlyBelow(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	logs := filepath.Join(dir.Name(), "logs")
	must.NoError(t, os.Mkdir(logs, 0o777))
	must.NoError(t, os.WriteFile(filepath.Join(logs, "log"), []byte("printed"), 0o644))
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "alloc", Source: dir, ReadOnlyBelow: "logs"})
	must.NoError(t, err)
	must.NoError(t, os.WriteFile(filepath.Join(path, "new"), nil, 0o600))
	must.ErrorIs(t, os.WriteFile(filepath.Join(path, "logs/new"), nil, 0o600), unix.EROFS)
	text, err := os.ReadFile(filepath.Join(path, "logs/log"))
	must.NoError(t, err)
	must.Eq(t, "printed", string(text))
	must.NoError(t, os.WriteFile(filepath.Join(logs, "later"), nil, 0o600))
	must.FileExists(t, filepath.Join(path, "logs/later"))

	// In a container the host user is root of a mount namespace of their own, which got both mounts as one.
	attack := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-xc", `
		umount "$1/logs" && exit 1
		umount -l "$1/logs" && exit 1
		mount -o remount,bind,rw "$1/logs" && exit 1
		mount --bind "$1" /mnt && exit 1
		mv "$1/logs" "$1/moved" && exit 1
		exit 0`, "sh", path)
	out, err := attack.CombinedOutput()
	must.NoError(t, err, must.Sprint(string(out)))

	must.NoError(t, stage.Close())
	must.Eq(t, 0, mountsBelow(t, stageRoot))

	for name, put := range map[string]func(path string) error{
		"link": func(path string) error { return os.Symlink("/etc", path) },
		"FIFO": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"none": func(string) error { return nil },
	} {
		must.NoError(t, os.RemoveAll(logs))
		must.NoError(t, put(logs))
		stage, err := NewStage(nobody, "task")
		must.NoError(t, err)
		_, err = stage.Add(StageMount{Name: "alloc", Source: dir, ReadOnlyBelow: "logs"})
		must.Error(t, err, must.Sprint(name))
		must.NoError(t, stage.Close())
		must.Eq(t, 0, mountsBelow(t, stageRoot))
	}
}

// A host user's FUSE file system may be mounted in what they are shown, again and again.
func TestInNamespaceStageMountedOn(t *testing.T) {
	needNamespace(t)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "local", Source: source(t)})
	must.NoError(t, err)
	for range 3 {
		must.NoError(t, unix.Mount("tmpfs", path, "tmpfs", 0, ""))
	}
	must.NoError(t, stage.Close())
	must.Eq(t, 0, mountsBelow(t, stageRoot))
	must.DirNotExists(t, stage.dir)
}

func TestInNamespaceStageAfterCrash(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	left, err := NewStage(nobody, "task")
	must.NoError(t, err)
	_, err = left.Add(StageMount{Name: "old", Source: dir})
	must.NoError(t, err)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	must.Eq(t, 1, mountsBelow(t, stageRoot)) // the new stage itself
	_, err = stage.Add(StageMount{Name: "new", Source: dir})
	must.NoError(t, err)
	must.NoError(t, stage.Close())
	must.FileExists(t, filepath.Join(dir.Name(), "token"))
}

// Where the file system has no access control lists, the primary group opens the stage, unless somebody else has it.
func TestInNamespaceStageWithoutACL(t *testing.T) {
	needNamespace(t)
	mount(t, "ramfs", "/run", "mode=755")
	mount(t, "tmpfs", "/etc", "mode=755")
	dir := source(t)
	must.NoError(t, os.Chmod(filepath.Join(dir.Name(), "token"), 0o644))
	accounts := func(others, members string) {
		for path, text := range map[string]string{
			"/etc/passwd": "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n" + others,
			"/etc/group":  "root:x:0:\nnogroup:x:65534:nobody" + members + "\n",
		} {
			must.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		}
	}
	accounts("", ",root")
	must.Eq(t, finding.OK, nobody.FindStaging().Status)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "local", Source: dir})
	must.NoError(t, err)
	text, err := nobody.readFile(filepath.Join(path, "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", text)
	out, err := run(&syscall.Credential{Uid: 1234, Gid: 1234}, nil, "ls", filepath.Dir(filepath.Dir(path)))
	must.Error(t, err)
	must.StrContains(t, out, "Permission denied")
	must.NoError(t, stage.Close())

	for _, other := range []struct{ account, member string }{
		{account: "bob:x:1234:65534::/:/bin/sh\n"},
		{account: "bob:x:1234:1234::/:/bin/sh\n", member: ",bob"},
	} {
		accounts(other.account, other.member)
		_, err = NewStage(nobody, "task")
		must.ErrorContains(t, err, "staging for host user nobody: /run/nomad-podman/stage/65534 is on a file system without POSIX access control lists, "+
			"and user bob has group nogroup (GID 65534), the primary group of host user nobody, too")
		must.ErrorContains(t, err, "usermod --gid")
		must.DirNotExists(t, stage.dir)
		must.Eq(t, finding.Fail, nobody.FindStaging().Status)
	}
	// Root needs no group.
	stage, err = NewStage(User{Name: "root"}, "task")
	must.NoError(t, err)
	must.NoError(t, stage.Close())
}

// What an earlier release left open to a group is closed to it.
func TestInNamespaceStageOfAnEarlierRelease(t *testing.T) {
	needNamespace(t)
	stage := stageOf(nobody, "task")
	userDir := filepath.Dir(stage.dir)
	must.NoError(t, os.MkdirAll(userDir, 0o750))
	must.NoError(t, os.Chown(userDir, 0, int(nobody.GID)))
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	uid, gid := ownerOf(t, userDir)
	must.Eq(t, [2]uint32{}, [2]uint32{uid, gid})
	info, err := os.Stat(userDir)
	must.NoError(t, err)
	must.Eq(t, 0o750|os.ModeDir, info.Mode()) // of the group's bits the access control list makes its mask
	for name, who := range strangers {
		_, err := run(who, nil, "ls", userDir)
		must.Error(t, err, must.Sprint(name))
	}
	must.NoError(t, nobody.Do(func() error { _, err := os.ReadDir(userDir); return err }))
	must.NoError(t, stage.Close())
}

func TestInNamespaceOfAnother(t *testing.T) {
	needNamespace(t)
	// A process with a mount namespace of its own, like a unit with PrivateTmp=.
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs theirs /run && echo ready && read line")
	stdin, err := other.StdinPipe()
	must.NoError(t, err)
	stdout, err := other.StdoutPipe()
	must.NoError(t, err)
	must.NoError(t, other.Start())
	_, err = stdout.Read(make([]byte, 6))
	must.NoError(t, err)

	ns, err := os.Open("/proc/" + strconv.Itoa(other.Process.Pid) + "/ns/mnt")
	must.NoError(t, err)
	defer ns.Close()
	// More than once: a thread that was used must not be taken for one of ours again.
	for i := range 20 {
		path := "/run/theirs" + strconv.Itoa(i)
		must.NoError(t, inMounts(ns, func() error { return os.WriteFile(path, nil, 0o600) }))
		must.FileNotExists(t, path)
	}
	must.NoError(t, stdin.Close())
	_ = other.Wait() // "read" fails at the end of its input
}

func TestNewStageRefusesNames(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "a\x00"} {
		_, err := NewStage(nobody, id)
		must.ErrorContains(t, err, "not a file name")
	}
}
