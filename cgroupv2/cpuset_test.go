package cgroupv2

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func TestCPUs(t *testing.T) {
	h := fakeHierarchy(t, map[string]map[string]string{
		"/nomad.slice/a.scope": {"cpuset.cpus.effective": "0,2-3\n"},
		"/machine.slice/c":     {"cpuset.cpus": "0-3\n"},
		"/without":             {},
	})
	cpus, err := h.CPUs("/nomad.slice/a.scope")
	must.NoError(t, err)
	must.Eq(t, "0,2-3", cpus)

	must.NoError(t, h.SetCPUs("/machine.slice/c", cpus))
	set, err := os.ReadFile(filepath.Join(h.Root, "/machine.slice/c/cpuset.cpus"))
	must.NoError(t, err)
	must.Eq(t, "0,2-3", string(set))

	for _, path := range []string{"/missing", "/without"} {
		_, err := h.CPUs(path)
		must.ErrorIs(t, err, ErrGone)
		must.ErrorIs(t, h.SetCPUs(path, "0"), ErrGone)
	}
	must.ErrorContains(t, h.SetCPUs("/machine.slice/../c", "0"), "clean")
}

func TestCPUWatch(t *testing.T) {
	h := fakeHierarchy(t, map[string]map[string]string{"/a": {"cpuset.cpus": "0\n"}, "/b": {"cpuset.cpus": "0\n"}, "/without": {}})
	w, err := WatchCPUs()
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, w.Close()) })
	changes := func() bool {
		select {
		case <-w.Changes():
			return true
		case <-time.After(5 * time.Second):
			return false
		}
	}

	removeA, err := w.Add(h, "/a")
	must.NoError(t, err)
	_, err = w.Add(h, "/b")
	must.NoError(t, err)
	must.NoError(t, h.SetCPUs("/a", "1"))
	must.True(t, changes())

	removeA()
	must.True(t, changes()) // the kernel tells of the end of a watch, too
	// Only what is watched is told of, and only when it changes.
	must.NoError(t, h.SetCPUs("/a", "2"))
	must.NoError(t, h.SetCPUs("/b", "0"))
	select {
	case <-w.Changes():
		t.Fatal("told of a change of nothing that is watched")
	case <-time.After(50 * time.Millisecond):
	}
	must.NoError(t, h.SetCPUs("/b", "1"))
	must.True(t, changes())

	for _, path := range []string{"/missing", "/without"} {
		_, err := w.Add(h, path)
		must.ErrorIs(t, err, ErrGone)
	}
}
