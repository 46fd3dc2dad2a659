package rootless

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containers/storage/types"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

const idStorage = "storage-conf"

// storage is what the files of containers-storage.conf(5) say.
type storage struct {
	file      settings // the file that counts; without a path podman's defaults do
	driver    string   // empty: podman's choice
	graphRoot string   // where images and containers are
	chosen    bool     // the file has chosen graphRoot
	err       error    // what is wrong with the system's file, else with the user's; what the file says is missing then
}

// storage reads the files as the user's podman does: the user's own replaces the system's, but for where others than root
// have their storage.
func (u User) storage(root string) storage {
	var s storage
	var conf types.TomlConfig
	for _, path := range []string{"/etc/containers/storage.conf", "/usr/share/containers/storage.conf"} {
		if s.err == nil && s.file.path == "" {
			s.read(u, settings{path: filepath.Join(root, path)}, &conf)
		}
	}
	s.driver = conf.Storage.Driver
	if u.IsRoot() {
		s.choose(u, "/var/lib/containers/storage", conf.Storage.GraphRoot)
		return s
	}
	s.choose(u, filepath.Join("/", u.Home, ".local/share/containers/storage"), conf.Storage.RootlessStoragePath)
	if s.err == nil && s.read(u, settings{path: u.own("storage.conf"), own: true}, &conf) {
		s.driver = conf.Storage.Driver
		s.choose(u, s.graphRoot, conf.Storage.RootlessStoragePath)
		s.choose(u, s.graphRoot, conf.Storage.GraphRoot)
	}
	return s
}

// read makes a file the one that counts, if it is there.
func (s *storage) read(u User, file settings, into *types.TomlConfig) bool {
	found, err := u.exists(file)
	if found {
		s.file, *into = file, types.TomlConfig{}
		_, err = u.parse(file, into)
	}
	s.err = err
	return found
}

// OwnStorageDriver is the storage driver that the user's own storage.conf sets, empty when it does not.
func (u User) OwnStorageDriver() string {
	if s := u.storage(""); s.file.own && s.err == nil {
		return s.driver
	}
	return ""
}

func (s *storage) choose(u User, otherwise, chosen string) {
	if s.graphRoot = otherwise; chosen != "" {
		s.chosen = true
		s.graphRoot = os.Expand(chosen, func(name string) string {
			return map[string]string{"HOME": u.Home, "USER": u.Name, "UID": strconv.FormatUint(uint64(u.UID), 10)}[name]
		})
	}
}

// FindStorageConf looks at what the files of containers-storage.conf(5) tell the user's podman of its storage.
func (u User) FindStorageConf() finding.Finding { return u.findStorageConf("") }

// findStorageConf looks at the system's files below a root.
func (u User) findStorageConf(root string) finding.Finding {
	s := u.storage(root)
	if s.err != nil {
		f := u.broken(idStorage, s.err)
		if s.file.own && f.Status == finding.Fail {
			f.Status, f.Why = finding.Warn, "podman goes on without it, perhaps with another storage driver or in another place"
		}
		return f
	}
	driver, place := s.driver, finding.Printable(s.graphRoot)
	if driver == "" {
		driver = "the driver that podman chooses"
	}
	f := finding.Good(idStorage, u.Name, "%s at %s", finding.Printable(driver), place)
	if s.file.path != "" {
		f.Seen += ", by " + s.file.path
	}
	if s.chosen {
		err := u.canUse(s.graphRoot)
		if errors.Is(err, errUnseen) {
			return finding.Unknown(idStorage, u.Name, err)
		}
		if err != nil {
			f.Status, f.Why, f.Cause = finding.Fail, "podman cannot work without that directory", err
			f.Seen = "graphroot " + place + " in " + s.file.path + ": " + finding.Printable(err.Error())
			f.Remedy.Advice = "make it and give it to " + u.Name + ", or remove the setting"
			return f
		}
	}
	if s.driver == "vfs" {
		f.Status, f.Why = finding.Warn, "every container is a full copy of its image"
		f.Remedy.Advice = `set driver = "overlay"; with it podman does not see the images and containers that are there`
	}
	return f
}

// canUse is nil when there is a directory that the user can write to, or the user can make it.
func (u User) canUse(path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("not an absolute path")
	}
	_, err := look(u, func() (string, error) {
		place, err := existing(path)
		if err != nil {
			return "", err
		}
		if err := unix.Faccessat(unix.AT_FDCWD, place, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return "", &os.PathError{Op: "writing to", Path: place, Err: err}
		}
		return place, nil
	})
	return err
}
