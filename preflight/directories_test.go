package preflight

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

func self(t *testing.T) rootless.User {
	t.Helper()
	self, err := rootless.Self()
	must.NoError(t, err)
	return self
}

func TestDataDir(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must.NoError(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(dir, "open")
	must.NoError(t, os.Mkdir(open, 0o700))
	must.NoError(t, os.Chmod(open, 0o777))
	closed := filepath.Join(dir, "closed")
	must.NoError(t, os.Mkdir(closed, 0o700))
	for name, test := range map[string]struct {
		dir  string
		want finding.Status
		seen string
	}{
		"not configured": {"", finding.Skipped, "no data_dir"},
		"not there":      {filepath.Join(dir, "not", "yet"), finding.Skipped, "when it first starts"},
		"a file":         {file, finding.Fail, "file"},
		"open":           {open, finding.Warn, "has mode 0777"},
		"closed":         {closed, finding.OK, " free"},
	} {
		t.Run(name, func(t *testing.T) {
			f := findDataDir(&config.Agent{DataDir: test.dir, AllocDir: filepath.Join(test.dir, "alloc")}, self(t))
			must.Eq(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, name == "open", len(f.Remedy.Commands) > 0)
			must.False(t, f.Remedy.Safe)
		})
	}
}

func TestStateDir(t *testing.T) {
	dir := t.TempDir()
	must.Eq(t, finding.OK, findStateDir(filepath.Join(dir, "not", "yet"), self(t)).Status)
	must.Eq(t, finding.Skipped, findStateDir("", self(t)).Status)
	must.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	below := findStateDir(filepath.Join(dir, "file", "below"), self(t))
	must.Eq(t, finding.Fail, below.Status)
	must.StrContains(t, below.Why, "starts nothing")
}

func TestExisting(t *testing.T) {
	dir := t.TempDir()
	must.Eq(t, dir, existing(filepath.Join(dir, "a", "b")))
	must.Eq(t, dir, existing(dir))
	must.Eq(t, "/", existing("/no-such-directory/at-all"))
}
