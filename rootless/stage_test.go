package rootless

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
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
	must.NoError(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { must.NoError(t, unix.Unmount("/run", unix.MNT_DETACH)) })
}

// source is a directory with a file that only root reaches.
func source(t *testing.T) *os.File {
	t.Helper()
	dir := t.TempDir()
	must.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=777"))
	t.Cleanup(func() { must.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
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
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	path, err := stage.Add(StageMount{Name: "local", Source: dir})
	must.NoError(t, err)

	text, err := nobody.readFile(filepath.Join(path, "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", text)
	_, err = User{UID: 1234, GID: 1234}.readFile(filepath.Join(path, "token"))
	must.ErrorIs(t, err, os.ErrPermission)
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
	path, err := stage.Add(StageMount{Name: "secrets", Source: source(t), IDMapRoot: true})
	if err != nil {
		// The other way out that Add promises.
		must.ErrorIs(t, err, ErrIDMapUnsupported)
		must.NoError(t, stage.Close())
		t.Skipf("this kernel: %v", err)
	}
	text, err := nobody.readFile(filepath.Join(path, "token"))
	must.NoError(t, err)
	must.Eq(t, "secret", text)
	var st unix.Statfs_t
	must.NoError(t, unix.Statfs(path, &st))
	const flags = unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV
	must.Eq(t, flags, st.Flags&flags)
	must.NoError(t, stage.Close())
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

func TestInNamespaceStageAfterCrash(t *testing.T) {
	needNamespace(t)
	dir := source(t)
	left, err := NewStage(nobody, "task")
	must.NoError(t, err)
	_, err = left.Add(StageMount{Name: "old", Source: dir})
	must.NoError(t, err)
	stage, err := NewStage(nobody, "task")
	must.NoError(t, err)
	must.Eq(t, 0, mountsBelow(t, stageRoot))
	_, err = stage.Add(StageMount{Name: "new", Source: dir})
	must.NoError(t, err)
	must.NoError(t, stage.Close())
	must.FileExists(t, filepath.Join(dir.Name(), "token"))
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
