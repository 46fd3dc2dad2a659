package rootless

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a file that the user may have put there, as the user. The file must be regular, owned by the
// user, and have no other name; a symbolic link in the last component or a magic link of /proc anywhere (it would
// resolve to this process's own descriptors) is refused. flag is an access mode and flags of open(2) which change
// nothing: O_CREAT and O_TRUNC are refused, since they act before the file can be checked.
func (u User) OpenRegular(path string, flag int) (*os.File, error) {
	if flag&(unix.O_CREAT|unix.O_TRUNC) != 0 {
		return nil, fmt.Errorf("opening %q as host user %s: must neither create nor truncate", path, u)
	}
	var fd int
	err := u.Do(func() error {
		var err error
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
			// O_NONBLOCK: a FIFO in its place must not make the open wait.
			Flags:   uint64(flag | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC), //nolint:gosec // flags
			Resolve: unix.RESOLVE_NO_MAGICLINKS,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening %q as host user %s: %w", path, u, err)
	}
	f := os.NewFile(uintptr(fd), path) //nolint:gosec // not negative
	if err := u.checkRegular(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %q as host user %s: %w", path, u, err), f.Close())
	}
	return f, nil
}

func (u User) checkRegular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("not a regular file")
	case st.Uid != u.UID:
		return fmt.Errorf("owned by UID %d", st.Uid)
	case st.Nlink != 1:
		return fmt.Errorf("has %d hard links", st.Nlink)
	}
	return nil
}

// ErrEscapes is wrapped by OpenBeneath's error when the path leads out of its root.
var ErrEscapes = errors.New("path leads out of its directory")

// OpenBeneath returns an O_PATH descriptor (open(2)) of the file or directory rel below the trusted directory root.
// Symbolic links are followed as long as they stay below root; one that is absolute or leads out with ".." is
// refused with ErrEscapes, also when the tree changes meanwhile (RESOLVE_BENEATH, openat2(2)).
func OpenBeneath(root, rel string) (*os.File, error) {
	path := filepath.Join(root, rel)
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", root, err)
	}
	fd := -1
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	// EAGAIN: something was renamed meanwhile and the kernel could not tell whether ".." stayed below root.
	for range 16 {
		fd, err = unix.Openat2(dir, rel, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	if cerr := unix.Close(dir); cerr != nil && err == nil {
		err = errors.Join(cerr, unix.Close(fd))
	}
	if err == unix.EXDEV {
		err = ErrEscapes
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s below %s: %w", rel, root, err)
	}
	return os.NewFile(uintptr(fd), path), nil //nolint:gosec // not negative
}
