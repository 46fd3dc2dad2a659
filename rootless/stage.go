package rootless

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stageRoot is where staging directories live. Root alone can change anything in it.
const stageRoot = "/run/nomad-podman"

// Stage is a set of bind mounts that show a host user files and directories which they could not reach themselves,
// while their container is created and started. Afterwards the container has mounts of its own and the stage is closed.
//
// The mounts are at /run/nomad-podman/stage/UID/ID/NAME. The UID directory is root's and open to the user's primary
// group, for reading; others get no further. The user can neither rename nor create anything on the way.
type Stage struct {
	user User
	dir  string
}

// StageMount is one file or directory to show.
type StageMount struct {
	Name      string   // file name below the stage
	Source    *os.File // O_PATH descriptor of what to show; stays the caller's
	ReadOnly  bool
	IDMapRoot bool // what root owns appears as the user's own; forces read-only, nosuid and nodev
}

// NewStage makes the directory of a stage. id is unique among the stages of all users; what a crash left of a
// stage with the same id is unmounted first. It needs root.
func NewStage(u User, id string) (*Stage, error) {
	if err := checkName(id); err != nil {
		return nil, fmt.Errorf("staging for host user %s: id %w", u, err)
	}
	s := stageOf(u, id)
	userDir := filepath.Dir(s.dir)
	err := inHostMounts(func() error {
		for _, d := range []struct {
			path string
			gid  uint32
			mode os.FileMode
		}{
			{stageRoot, 0, 0o711},
			{filepath.Dir(userDir), 0, 0o711},
			{userDir, u.GID, 0o750},
		} {
			if err := makeDir(d.path, d.gid, d.mode); err != nil {
				return err
			}
		}
		if err := s.clear(); err != nil {
			return err
		}
		return makeDir(s.dir, 0, 0o711)
	})
	if err != nil {
		return nil, fmt.Errorf("staging for host user %s: %w", u, err)
	}
	return s, nil
}

// User is whom the stage shows its mounts.
func (s *Stage) User() User { return s.user }

// ClearStage unmounts and removes what a crash has left of a stage, if anything. It needs root.
func ClearStage(u User, id string) error {
	if err := checkName(id); err != nil {
		return fmt.Errorf("staging for host user %s: id %w", u, err)
	}
	left := stageOf(u, id)
	if _, err := os.Lstat(left.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return left.Close()
}

// stageOf is a stage that may not exist.
func stageOf(u User, id string) *Stage {
	return &Stage{user: u, dir: filepath.Join(stageRoot, "stage", strconv.FormatUint(uint64(u.UID), 10), id)}
}

// Add mounts m below the stage and returns the path at which the user finds it. Mounts below a directory come
// along, except for IDMapRoot. Later mounts and unmounts below the source are seen too (MS_SLAVE), never the
// other way round. The error wraps ErrIDMapUnsupported when only the ID map is impossible.
func (s *Stage) Add(m StageMount) (string, error) {
	path, err := s.add(m)
	if err != nil {
		return "", fmt.Errorf("staging %s for host user %s: %w", m.Source.Name(), s.user, err)
	}
	return path, nil
}

func (s *Stage) add(m StageMount) (string, error) {
	if err := checkName(m.Name); err != nil {
		return "", fmt.Errorf("name %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(m.Source.Fd()), &st); err != nil { //nolint:gosec // a descriptor
		return "", fmt.Errorf("fstat: %w", err)
	}
	tree, err := s.cloneTree(m)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, m.Name)
	err = inHostMounts(func() error {
		if err := makeMountPoint(path, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
			return err
		}
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return errors.Join(fmt.Errorf("move_mount to %s: %w", path, err), os.Remove(path))
		}
		return nil
	})
	return path, errors.Join(err, unix.Close(tree))
}

// cloneTree makes the detached mount. It is done in this process's own mount namespace, where the source is.
func (s *Stage) cloneTree(m StageMount) (int, error) {
	var recursive uint = unix.AT_RECURSIVE
	attr := &unix.MountAttr{Propagation: unix.MS_SLAVE}
	if m.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if m.IDMapRoot {
		recursive = 0
		// Never writable: the container's root would make files that are root's on the host, setuid ones too.
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_IDMAP
		userns, err := rootToUser(s.user)
		if err != nil {
			return -1, err
		}
		defer func() { _ = userns.Close() }()
		attr.Userns_fd = uint64(userns.Fd())
	}
	tree, err := unix.OpenTree(int(m.Source.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive) //nolint:gosec // a descriptor
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|recursive, attr); err != nil {
		if m.IDMapRoot && (err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP) {
			err = fmt.Errorf("%w: %w", ErrIDMapUnsupported, err)
		}
		return -1, errors.Join(fmt.Errorf("mount_setattr: %w", err), unix.Close(tree))
	}
	return tree, nil
}

// Close unmounts everything below the stage and removes its directory. A container that was started meanwhile keeps
// its own mounts. Closing again is no error.
func (s *Stage) Close() error {
	if err := inHostMounts(s.clear); err != nil {
		return fmt.Errorf("closing the stage %s: %w", s.dir, err)
	}
	return nil
}

// clear unmounts and removes what is in the stage, then the stage itself. Nothing is deleted recursively: if an
// unmount failed, removing the mount point fails with EBUSY and what is mounted there stays as it is.
func (s *Stage) clear() error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		// EINVAL: nothing is mounted there.
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", path, err))
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(s.dir)
}

// checkName accepts what is one component of a path.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is not a file name", name)
	}
	return nil
}

// makeDir makes a directory of root's, or gives the one that is there this group and mode.
func makeDir(path string, gid uint32, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := dir.Chown(0, int(gid)); err != nil {
		return errors.Join(err, dir.Close())
	}
	return errors.Join(dir.Chmod(mode), dir.Close())
}

func makeMountPoint(path string, dir bool) error {
	if dir {
		return os.Mkdir(path, 0o700)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
