package cgroupv2

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
)

// fakeHierarchy lays out cgroups and their files under a directory.
func fakeHierarchy(t testing.TB, cgroups map[string]map[string]string) Hierarchy {
	t.Helper()
	h := Hierarchy{Root: t.TempDir()}
	for path, files := range cgroups {
		must.NoError(t, os.MkdirAll(filepath.Join(h.Root, path), 0o755))
		for name, text := range files {
			must.NoError(t, os.WriteFile(filepath.Join(h.Root, path, name), []byte(text), 0o644))
		}
	}
	return h
}

func TestHierarchy_NothingOutside(t *testing.T) {
	outside := map[string]string{"cpu.stat": "usage_usec 1\n", "cgroup.controllers": "cpu\n"}
	parent := fakeHierarchy(t, map[string]map[string]string{"/tree": {}, "/outside": outside, "/tree/inside": outside})
	h := Hierarchy{Root: filepath.Join(parent.Root, "tree")}
	must.NoError(t, os.Symlink("../outside", filepath.Join(h.Root, "link")))
	must.NoError(t, os.Symlink("inside", filepath.Join(h.Root, "inner-link")))
	must.NoError(t, os.Mkdir(filepath.Join(h.Root, "linked-file"), 0o755))
	must.NoError(t, os.Symlink("../../outside/cpu.stat", filepath.Join(h.Root, "linked-file", "cpu.stat")))

	_, err := h.Controllers("/inside")
	must.NoError(t, err)
	for _, path := range []string{
		"/../outside", "/inside/../../outside", "/link", "/inner-link", "/linked-file",
		"../outside", "outside", "/inside/", "//inside", "", ".",
	} {
		_, err := h.Open(path)
		must.Error(t, err, must.Sprint(path))
	}
}

func TestHierarchy_Gone(t *testing.T) {
	h := fakeHierarchy(t, map[string]map[string]string{"/without-files": {}})
	for _, path := range []string{"/missing", "/without-files"} {
		_, err := h.Open(path)
		must.ErrorIs(t, err, ErrGone)
		_, err = h.Controllers(path)
		must.ErrorIs(t, err, ErrGone)
	}
}
