package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/shoenig/test/must"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want command
	}{
		{"up", []string{"up"}, command{verb: "up", args: []string{}}},
		{"up with the UI", []string{"up", "--ui"}, command{verb: "up", ui: true, args: []string{}}},
		{"a shell", []string{"ssh"}, command{verb: "ssh", args: []string{}}},
		{"a command", []string{"ssh", "--", "ls", "-l"}, command{verb: "ssh", args: []string{"ls", "-l"}}},
		{"options of the command stay its own", []string{"run", "ls", "-l"}, command{verb: "run", args: []string{"ls", "-l"}}},
		{"a test binary", []string{"exec", "--books", "/tmp/e2e.test", "-test.v"},
			command{verb: "exec", books: true, args: []string{"/tmp/e2e.test", "-test.v"}}},
		{"a kept machine", []string{"exec", "--books", "--keep", "/tmp/e2e.test"}, command{verb: "exec", books: true, keep: true, args: []string{"/tmp/e2e.test"}}},
		{"only the machine", []string{"build"}, command{verb: "build", args: []string{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(c.args)
			must.NoError(t, err)
			must.True(t, reflect.DeepEqual(c.want, got), must.Sprintf("%+v", got))
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{}, {"fly"}, {"run"}, {"exec"}, {"exec", "--books"}, {"up", "now"}, {"up", "--keep"}, {"build", "x"}, {"down", "x"}, {"books", "--ui"}} {
		_, err := parse(args)
		must.Error(t, err, must.Sprintf("%v", args))
	}
}

func TestFindRoot(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "e2e", "deep")
	must.NoError(t, os.MkdirAll(below, 0o700))
	must.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module nomad-driver-podman\n\ngo 1.26\n"), 0o600))
	// A module within: not the one.
	must.NoError(t, os.WriteFile(filepath.Join(below, "go.mod"), []byte("module other\n"), 0o600))
	t.Chdir(below)
	found, err := findRoot()
	must.NoError(t, err)
	must.Eq(t, root, found)
}

func TestBinary(t *testing.T) {
	dir := t.TempDir()
	named, fallback := filepath.Join(dir, "named"), filepath.Join(dir, "fallback")
	must.NoError(t, os.WriteFile(named, nil, 0o600))

	path, err := binary("LAB_TEST_BINARY", fallback)
	must.NoError(t, err)
	must.Eq(t, "", path, must.Sprint("nothing there"))

	must.NoError(t, os.WriteFile(fallback, nil, 0o600))
	path, err = binary("LAB_TEST_BINARY", fallback)
	must.NoError(t, err)
	must.Eq(t, fallback, path)

	t.Setenv("LAB_TEST_BINARY", named)
	path, err = binary("LAB_TEST_BINARY", fallback)
	must.NoError(t, err)
	must.Eq(t, named, path)

	t.Setenv("LAB_TEST_BINARY", "")
	path, err = binary("LAB_TEST_BINARY", fallback)
	must.NoError(t, err)
	must.Eq(t, "", path, must.Sprint("explicitly none"))

	for _, wrong := range []string{filepath.Join(dir, "missing"), dir} {
		t.Setenv("LAB_TEST_BINARY", wrong)
		_, err = binary("LAB_TEST_BINARY", fallback)
		must.ErrorContains(t, err, "LAB_TEST_BINARY")
	}
}
