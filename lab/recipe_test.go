package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
)

func TestRecipe(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "provision", "step.sh")
	must.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	must.NoError(t, os.WriteFile(file, []byte("true"), 0o600))
	key := func(label, value string) string {
		r := newRecipe()
		r.text(label, value)
		must.NoError(t, r.files(root, "provision"))
		return r.key()
	}
	first := key("suite", "trixie")
	must.Eq(t, first, key("suite", "trixie"))
	must.NotEq(t, first, key("suite", "forky"))
	must.NotEq(t, first, key("suitetrixie", ""), must.Sprint("values run together"))

	must.NoError(t, os.Chmod(file, 0o700)) //nolint:gosec // a script
	executable := key("suite", "trixie")
	must.NotEq(t, first, executable)
	must.NoError(t, os.WriteFile(file, []byte("false"), 0o600))
	must.NotEq(t, executable, key("suite", "trixie"))
	must.NoError(t, os.Rename(file, filepath.Join(root, "provision", "other.sh")))
	must.NotEq(t, executable, key("suite", "trixie"))

	must.ErrorIs(t, newRecipe().files(root, "missing"), os.ErrNotExist)
}

func TestParsePackages(t *testing.T) {
	const list = "# comment\n\npodman\npasst trixie forky\ncontainernetworking-plugins bookworm\n"
	must.Eq(t, []string{"podman", "passt"}, parsePackages(list, "trixie"))
	must.Eq(t, []string{"podman", "containernetworking-plugins"}, parsePackages(list, "bookworm"))
}
