package rootless

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLinks is over how many symbolic links a path may lead, as in the kernel (path_resolution(7)).
const maxLinks = 40

// hostPathTimeout bounds the way to a host path: a file system on it may first have to be mounted (autofs(5)), and one that
// a user has mounted may never answer.
const hostPathTimeout = time.Minute

// OpenHostPath opens a file or directory of the host that an operator names by an absolute path, to show it to the user. As
// root it returns an O_PATH descriptor (open(2)), and lends root's reach only as far as root alone decides where the path
// leads:
//
//   - As long as root alone can change the directory that the next name is in, root looks the name up. So the user is shown
//     what lies behind directories that are closed to them, as the operator wants it, and symbolic links are followed: they
//     are root's word. Such a directory is root's and not writable for its group or for others. A sticky one that is
//     (/tmp) does not count, since a link of root's can be moved into it; nor does a FUSE file system, which says of its
//     files what it likes and which a user can mount on a directory of theirs; nor procfs, whose links lead to what
//     processes have open.
//   - From the first other directory on, however deep the path goes on below, no link is followed, nor is "..": whoever can
//     change that directory could lead root into what is closed to them. And the names are looked up with the user's rights:
//     a directory that root has closed may have been renamed into the way. So whoever swaps a directory there, or moves a
//     mount, shows only what the user could have named without root. Where the user is root, whose containers can read
//     everything anyway, that leaves the links refused.
//   - Where that meets a link, the user may still get through all of the path with their own rights. Then root lends nothing,
//     and links are the user's business, but for those of procfs, which would lead to what this process has open.
//
// Every name is looked up beneath a descriptor, and whose its directory is is asked of the same descriptor, so that it does
// not matter what is swapped meanwhile. Mount points are crossed. What is found there may be a FIFO or a device: O_PATH
// opens neither. The error wraps os.ErrDeadlineExceeded when a file system does not answer.
//
// A process that is not root can lend nothing. There the path must be readable to it.
func (u User) OpenHostPath(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("opening %q: not an absolute path of the host", path)
	}
	if os.Geteuid() != 0 {
		return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	root := User{Name: "root"}
	f, err := lookWithin(hostPathTimeout, root, func() (*os.File, error) {
		fd, err := u.openHostPath(path)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil //nolint:gosec // not negative
	})
	if errors.Is(err, errUnseen) {
		err = fmt.Errorf("opening %s: %w", path, err)
	}
	return f, err
}

func (u User) openHostPath(path string) (int, error) {
	w, err := u.walk(path)
	if err == nil {
		return w.dir, nil
	}
	var link *linkError
	if !errors.As(err, &link) || u.IsRoot() {
		return -1, err
	}
	fd, own := u.openOwn(path)
	if own != nil {
		return -1, fmt.Errorf("%w; and host user %s does not get there without root: %w", err, u, own)
	}
	return fd, nil
}

// openOwn opens a path with the user's own rights.
func (u User) openOwn(path string) (fd int, err error) {
	err = u.Do(func() error {
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
		return err
	})
	return fd, err
}

// linkError is about a link, or "..", that root does not follow.
type linkError struct {
	path, what string
	who, dir   string // can change what is in the directory, which is on the way
}

func (e *linkError) Error() string {
	return fmt.Sprintf("%s is %s that root does not follow, since %s can change what is in %s; make that directory root's "+
		"and writable to nobody else, or have the agent's configuration (host_volume) name the place itself", e.path, e.what, e.who, e.dir)
}

// walk is a way through the host's directories, as far as it was gone.
type walk struct {
	user  User
	dir   int      // O_PATH descriptor of where it is
	at    string   // the path of that, for messages
	rest  []string // the names that are left to look up
	links int      // that were followed
	// who can change the directory others on the way, besides root. Empty: so far nobody can.
	who, others string
}

// walk goes all the way. The descriptor is then the caller's.
func (u User) walk(path string) (_ *walk, err error) {
	w := &walk{user: u, dir: -1, rest: names(path)}
	if err := w.toRoot(); err != nil {
		return nil, err
	}
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			return nil, errors.Join(err, unix.Close(w.dir))
		}
	}
	return w, nil
}

// names are the components of a path.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// toRoot goes to the directory where absolute paths begin.
func (w *walk) toRoot() error {
	fd, err := openName(unix.AT_FDCWD, "/")
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	return w.goTo(fd, "/")
}

func (w *walk) goTo(dir int, path string) error {
	var err error
	if w.dir >= 0 {
		err = unix.Close(w.dir)
	}
	w.dir, w.at = dir, path
	return err
}

// step looks one name up, and goes there, or follows the link that it finds.
func (w *walk) step() error {
	if w.who == "" {
		who, err := whoChanges(w.dir)
		if err != nil {
			return &fs.PathError{Op: "stat", Path: w.at, Err: err}
		}
		w.who, w.others = who, w.at
	}
	name := w.rest[0]
	path := filepath.Join(w.at, name)
	if name == ".." && w.who != "" {
		return &linkError{w.at + "/..", "a way up", w.who, w.others}
	}
	fd, err := w.open(name)
	if err != nil {
		return w.lookUpError(path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(&fs.PathError{Op: "stat", Path: path, Err: err}, unix.Close(fd))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return errors.Join(w.follow(fd, path), unix.Close(fd))
	}
	w.rest = w.rest[1:]
	return w.goTo(fd, path)
}

// open looks a name up, with the user's rights where others can change what it stands for.
func (w *walk) open(name string) (fd int, err error) {
	if w.who == "" {
		return openName(w.dir, name)
	}
	err = w.user.Do(func() error {
		fd, err = openName(w.dir, name)
		return err
	})
	return fd, err
}

func (w *walk) lookUpError(path string, err error) error {
	err = &fs.PathError{Op: "open", Path: path, Err: err}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w to host user %s and their primary group, with whose rights root goes on from %s, since %s can change what is in there",
			err, w.user, w.others, w.who)
	}
	return err
}

// follow goes on where a symbolic link leads.
func (w *walk) follow(link int, path string) error {
	if w.who != "" {
		return &linkError{path, "a symbolic link", w.who, w.others}
	}
	if w.links++; w.links > maxLinks {
		return &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", target)
	if err == nil && n == len(target) {
		err = unix.ENAMETOOLONG
	}
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	w.rest = append(names(string(target[:n])), w.rest[1:]...)
	if filepath.IsAbs(string(target[:n])) {
		return w.toRoot()
	}
	return nil
}

// openName opens what a name stands for, a link itself too.
func openName(dir int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	for {
		// With O_DIRECTORY what is to be mounted there at its first use is mounted (open(2), O_PATH).
		fd, err := unix.Openat(dir, name, flags|unix.O_DIRECTORY, 0)
		if err == unix.ENOTDIR {
			fd, err = unix.Openat(dir, name, flags, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// whoChanges says who besides root can change what is in a directory, in words. It is empty when nobody can, and for what is no
// directory, in which no name is found.
func whoChanges(dir int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", nil
	}
	var fileSystem unix.Statfs_t
	if err := unix.Fstatfs(dir, &fileSystem); err != nil {
		return "", err
	}
	switch {
	case fileSystem.Type == unix.FUSE_SUPER_MAGIC:
		return "the program behind the FUSE file system", nil
	case fileSystem.Type == unix.PROC_SUPER_MAGIC:
		return "every process", nil
	case st.Uid != 0:
		if owner, err := LookupUID(st.Uid); err == nil {
			return "host user " + owner.Name, nil
		}
		return "UID " + strconv.FormatUint(uint64(st.Uid), 10), nil
	case st.Mode&0o002 != 0:
		return "everybody", nil
	case st.Mode&0o020 != 0: // also a POSIX ACL that lets somebody write (acl(5))
		gid := strconv.FormatUint(uint64(st.Gid), 10)
		if group, err := user.LookupGroupId(gid); err == nil {
			return "group " + group.Name, nil
		}
		return "GID " + gid, nil
	}
	return "", nil
}
