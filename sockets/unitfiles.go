package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Where units come from, the first that has one wins (systemd.unit(5)). A user's own directories are not looked at:
// what they change shows when the unit is started.
var (
	systemUnits = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	userUnits   = []string{"/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/local/share/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user"}
)

// checkUnitFile makes sure that a unit is installed and not masked, which is a link to /dev/null or an empty file.
func checkUnitFile(dirs []string, unit, remedy string) error {
	for _, dir := range dirs {
		path := filepath.Join(dir, unit)
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() || st.Size() == 0 {
			return fmt.Errorf("%s: %w; %s", path, ErrUnitMasked, remedy)
		}
		return nil
	}
	return fmt.Errorf("%s: %w in %s; install podman", unit, ErrUnitNotFound, filepath.Dir(dirs[len(dirs)-1]))
}
