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
// The mounts are at /run/nomad-podman/stage/UID/ID/NAME, on a file system of the stage's own. The UID directory is root's and open to the user, for reading;
// others get no further, whatever groups they have. The user can neither rename nor create anything on the way, and what
// is there makes nobody another user: for a user other than root all mounts are nosuid and nodev.
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

	// ReadOnlyBelow names a directory in Source that is read-only, if it is not empty. Both arrive in the user's mount
	// namespace as one tree. So nobody there can take the one off the other (mount_namespaces(7), on locked mounts).
	ReadOnlyBelow string
}

// NewStage makes the directory of a stage. id is unique among the stages of all users; what a crash left of a
// stage with the same id is unmounted first. It needs root.
func NewStage(u User, id string) (*Stage, error) {
	if err := checkName(id); err != nil {
		return nil, fmt.Errorf("staging for host user %s: id %w", u, err)
	}
	s := stageOf(u, id)
	userDir := filepath.Dir(s.dir)
	err := InHostMounts(func() error {
		for _, path := range []string{stageRoot, filepath.Dir(userDir)} {
			if err := makeDir(path, openToPass); err != nil {
				return err
			}
		}
		if err := makeDir(userDir, func(dir *os.File) error { return openTo(dir, u) }); err != nil {
			return err
		}
		if err := s.clear(); err != nil {
			return err
		}
		return s.mount()
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
// along, and later mounts and unmounts below the source are seen too (MS_SLAVE), never the other way round. With
// IDMapRoot no mounts come along, with ReadOnlyBelow neither do later ones. The error wraps ErrIDMapUnsupported when only the ID map is impossible.
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
	if err == nil && m.ReadOnlyBelow != "" {
		tree, err = s.joinReadOnly(tree, m)
	}
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, m.Name)
	err = InHostMounts(func() error {
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
	if m.ReadOnlyBelow != "" {
		recursive = 0
	}
	if !s.user.IsRoot() {
		// Another task's container may have left a set-user-ID program or a disk's node there, for the user's own shell.
		attr.Attr_set |= unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	}
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

// joinReadOnly puts what is read-only below m.Source into the detached tree of it, and returns the whole in its place.
func (s *Stage) joinReadOnly(tree int, m StageMount) (whole int, err error) {
	defer func() { err = errors.Join(err, unix.Close(tree)) }()
	below, err := unix.Openat2(int(m.Source.Fd()), m.ReadOnlyBelow, &unix.OpenHow{ //nolint:gosec // a descriptor
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", m.ReadOnlyBelow, err)
	}
	file := os.NewFile(uintptr(below), filepath.Join(m.Source.Name(), m.ReadOnlyBelow)) //nolint:gosec // not negative
	part, err := s.cloneTree(StageMount{Source: file, ReadOnly: true})
	if err := errors.Join(err, file.Close()); err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, unix.Close(part)) }()
	// Kernels before 6.15 mount nothing into a detached tree. So they are put together at a place that nobody else sees.
	err = onThrowawayThread(func() (err error) {
		whole, err = assemble(tree, part, m.ReadOnlyBelow)
		return err
	})
	return whole, err
}

// assemble makes a copy of a detached tree with another one mounted at a path in it. It leaves the calling thread in a mount
// namespace of its own, with tree at stageRoot.
func assemble(tree, part int, at string) (int, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, stageRoot, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("move_mount to %s: %w", stageRoot, err)
	}
	// tree is the attached mount now.
	place, err := unix.Openat2(tree, at, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", at, err)
	}
	err = unix.MoveMount(part, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err := errors.Join(err, unix.Close(place)); err != nil {
		return -1, fmt.Errorf("move_mount to %s: %w", at, err)
	}
	// What is mounted on the source later does not get here: it would come without what was made of this mount.
	if err := unix.Mount("", stageRoot, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("making the tree private: %w", err)
	}
	whole, err := unix.OpenTree(tree, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return whole, nil
}

// Close unmounts everything below the stage and removes its directory. A container that was started meanwhile keeps
// its own mounts. Closing again is no error.
func (s *Stage) Close() error {
	if err := InHostMounts(s.clear); err != nil {
		return fmt.Errorf("closing the stage %s: %w", s.dir, err)
	}
	return nil
}

// clear unmounts the stage with all that is mounted in it, and removes its directory. That the stage is a mount itself makes
// this one call: the user may mount in what they are shown (fusermount3(1)), also while it is cleared.
func (s *Stage) clear() error {
	for {
		err := unix.Unmount(s.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.ENOENT {
			return nil
		}
		if err == unix.EINVAL { // it is no mount, or none any more
			return os.Remove(s.dir)
		}
		if err != nil {
			return fmt.Errorf("unmounting %s: %w", s.dir, err)
		}
	}
}

// mount makes the stage a file system of its own, which holds nothing but mount points.
func (s *Stage) mount() error {
	if err := makeDir(s.dir, openToPass); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0711,size=64k"); err != nil {
		return errors.Join(fmt.Errorf("mounting a tmpfs at %s: %w", s.dir, err), os.Remove(s.dir))
	}
	return nil
}

// checkName accepts what is one component of a path.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is not a file name", name)
	}
	return nil
}

// makeDir makes a directory that is closed to all but root, or takes the one that is there, and has open say who gets in.
func makeDir(path string, open func(dir *os.File) error) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(open(dir), dir.Close())
}

// openToPass makes a directory root's and lets everybody through, to what they know the name of.
func openToPass(dir *os.File) error { return errors.Join(dir.Chown(0, 0), dir.Chmod(0o711)) }

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
