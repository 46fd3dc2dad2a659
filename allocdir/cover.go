package allocdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/rootless"
)

// stNoSymFollow is the flag of a mount over whose links nobody goes (ST_NOSYMFOLLOW, include/linux/statfs.h).
const stNoSymFollow = 0x2000

// Cover mounts an allocation's shared directory over itself so that nobody who goes there by its path follows a link
// (MOUNT_ATTR_NOSYMFOLLOW, mount_setattr(2), Linux 5.14). It stands while an agent starts: that opens the directory to
// everybody again, and goes by paths in it as root. Containers have mounts of their own; tasks that go by the path follow no
// links in it meanwhile, either.
func Cover(path string) error {
	return withShared(path, false, func(dir *os.File) error {
		fd := int(dir.Fd()) //nolint:gosec // a descriptor
		tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("covering %s: open_tree: %w", dir.Name(), err)
		}
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSYMFOLLOW, Propagation: unix.MS_PRIVATE}
		if err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr); err != nil {
			err = fmt.Errorf("covering %s: mount_setattr: %w", dir.Name(), err)
		} else if err = unix.MoveMount(tree, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
			err = fmt.Errorf("covering %s: move_mount: %w", dir.Name(), err)
		}
		return errors.Join(err, unix.Close(tree))
	})
}

// Uncover ends Cover. Where nothing is covered it does nothing. What Nomad has wanted to remove meanwhile, and has emptied, it
// removes: Nomad does not try again.
func Uncover(path string) error {
	return withShared(path, true, func(dir *os.File) error {
		// The way is root's up to here. EINVAL: another task's call was faster.
		if err := unix.Unmount(filepath.Join(path, shared), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return fmt.Errorf("uncovering %s: %w", dir.Name(), err)
		}
		if unix.Rmdir(filepath.Join(path, shared)) == nil { // it has logs in it as long as Nomad knows it
			_ = unix.Rmdir(path)
		}
		return nil
	})
}

// withShared calls do for an allocation's shared directory when it is covered, or is not, as asked for. Where the allocation's
// own directory follows no links already there is never anything to do. It works in the mounts of process 1, from where agents
// that have their own get them.
func withShared(path string, covered bool, do func(*os.File) error) error {
	return rootless.InHostMounts(func() error { return inShared(path, covered, do) })
}

func inShared(path string, covered bool, do func(*os.File) error) error {
	alloc, err := Open(path)
	if errors.Is(err, unix.ENOENT) {
		return nil // Nomad has removed it
	}
	if err != nil {
		return err
	}
	defer func() { _ = alloc.Close() }()
	if everywhere, err := followsNoLinks(alloc.root); everywhere || err != nil {
		return err
	}
	dir, err := alloc.Shared()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	is, err := followsNoLinks(dir)
	if err == nil && is == covered {
		err = do(dir)
	}
	return errors.Join(err, dir.Close())
}

func followsNoLinks(dir *os.File) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil { //nolint:gosec // a descriptor
		return false, fmt.Errorf("%s: fstatfs: %w", dir.Name(), err)
	}
	return fs.Flags&stNoSymFollow != 0, nil
}
