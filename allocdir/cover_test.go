package allocdir

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/rootless"
)

// inNamespace is set for the test's binary when it stands for process 1 of its own mount and PID namespaces.
const inNamespace = "ALLOCDIR_TEST_IN_NAMESPACE"

// TestCover runs TestInNamespace… in new namespaces.
func TestCover(t *testing.T) {
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

// buildInNamespace is build, for a test in a namespace whose mounts reach others, as those of a host do.
func buildInNamespace(t *testing.T) string {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestCover, in a mount namespace")
	}
	must.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	return build(t)
}

func TestInNamespaceCover(t *testing.T) {
	path := buildInNamespace(t)
	target := filepath.Join(t.TempDir(), "target")
	must.NoError(t, os.WriteFile(target, []byte("kept"), 0o600))
	link := filepath.Join(path, "alloc/logs/web.stdout.0")
	must.NoError(t, os.Symlink(target, link))
	must.NoError(t, os.WriteFile(filepath.Join(path, "alloc/logs/web.stderr.0"), []byte("stderr"), 0o600))

	must.NoError(t, Cover(path))
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
	must.DirExists(t, filepath.Join(path, "alloc/logs"))

	must.NoError(t, Cover(path))
	must.ErrorIs(t, os.RemoveAll(path), unix.EBUSY)
	must.NoError(t, Uncover(path))
	must.DirNotExists(t, path)
	must.NoError(t, Cover(path)) // Nomad has removed it
	must.NoError(t, Uncover(path))
}

// A container that starts meanwhile is not covered, and what it has of the logs stays read-only.
func TestInNamespaceCoverAndStage(t *testing.T) {
	path := buildInNamespace(t)
	must.NoError(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { must.NoError(t, unix.Unmount("/run", unix.MNT_DETACH)) })
	d, err := Open(path)
	must.NoError(t, err)
	defer d.Close()
	dir, err := d.Shared()
	must.NoError(t, err)
	defer dir.Close()
	stage, err := rootless.NewStage(someone, "task")
	must.NoError(t, err)
	staged, err := stage.Add(rootless.StageMount{Name: "alloc", Source: dir, ReadOnlyBelow: LogsName})
	must.NoError(t, err)

	must.NoError(t, Cover(path))
	must.ErrorIs(t, os.WriteFile(filepath.Join(staged, "logs/new"), nil, 0o600), unix.EROFS)
	var fs unix.Statfs_t
	must.NoError(t, unix.Statfs(staged, &fs))
	const flags = unix.ST_NOSUID | unix.ST_NODEV
	must.Eq(t, flags, fs.Flags&flags)
	must.Zero(t, fs.Flags&stNoSymFollow)
	must.NoError(t, stage.Close())
	must.NoError(t, Uncover(path))
}

// Tasks of a group call it at once.
func TestInNamespaceUncoverAtOnce(t *testing.T) {
	path := buildInNamespace(t)
	for range 50 {
		must.NoError(t, Cover(path))
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() { must.NoError(t, Uncover(path)) })
		}
		calls.Wait()
	}
}
