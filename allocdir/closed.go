package allocdir

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrReplaced is wrapped when another directory is in the place of an allocation's logs. Nomad would open files there as root.
var ErrReplaced = errors.New("alloc/logs was replaced by something else")

// Modes of the two directories. Everybody may make files in alloc, but nobody removes or renames what somebody else owns there
// (the sticky bit, inode(7)); in logs only root makes any.
const (
	sharedMode = unix.S_ISVTX | 0o777
	logsMode   = 0o755
)

// closed is an allocation whose shared directory and logs are root's. Nomad undoes that: it gives them to nobody again, for
// everybody to write, at each start of the agent.
type closed struct {
	path         string
	shared, logs *os.File
	id           ID // of logs
}

// closeOff takes the two directories from everybody but root, and removes from the logs what nobody but an attacker has put there.
// was is the ID of the logs when they were closed before, else zero. What was removed is told by name.
func closeOff(path string, was ID) (_ *closed, removed []string, err error) {
	dir, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	c := &closed{path: path}
	if c.shared, err = open(dir.root, shared, unix.O_RDONLY); err != nil {
		return nil, nil, err
	}
	// Now that nobody else can rename anything in it, what is called logs stays so.
	if _, err := own(c.shared, sharedMode); err != nil {
		return nil, nil, errors.Join(err, c.close())
	}
	if c.logs, err = open(c.shared, LogsName, unix.O_RDONLY); err != nil {
		return nil, nil, errors.Join(c.replaced(err), c.close())
	}
	if c.id, err = idOf(c.logs); err == nil {
		removed, err = c.restore(true)
	}
	if err == nil && was != (ID{}) && was != c.id {
		err = c.replaced(nil)
	}
	if err != nil {
		return nil, removed, errors.Join(err, c.close())
	}
	return c, removed, nil
}

// restore closes the directories again when somebody has opened them, and then looks at what has happened to the logs meanwhile.
func (c *closed) restore(look bool) (removed []string, err error) {
	for _, dir := range []struct {
		file *os.File
		mode uint32
	}{{c.shared, sharedMode}, {c.logs, logsMode}} {
		changed, err := own(dir.file, dir.mode)
		if err != nil {
			return nil, err
		}
		look = look || changed
	}
	if !look {
		return nil, nil
	}
	if is, err := c.called(LogsName); err != nil || is != c.id {
		return nil, c.replaced(err)
	}
	return sweep(c.logs)
}

// replaced is the error for what is in the place of the logs, after a directory of root's has come there.
func (c *closed) replaced(why error) error {
	return errors.Join(fmt.Errorf("%s: %w", c.path, ErrReplaced), why, c.claim())
}

// claimTries is how often somebody may put something else in the place of the logs, which is theirs to move until it is root's.
const claimTries = 1000

// claim makes what is called logs a directory of root's in which nothing leads elsewhere. There must be one: anybody may make
// what is missing in a directory that only the sticky bit protects.
func (c *closed) claim() error {
	parent := int(c.shared.Fd()) //nolint:gosec // a descriptor
	for range claimTries {
		if err := unix.Mkdirat(parent, LogsName, logsMode); err != nil && err != unix.EEXIST {
			return fmt.Errorf("making %s anew: %w", LogsName, err)
		}
		now, err := open(c.shared, LogsName, unix.O_RDONLY)
		if err != nil { // it is none
			if err := unix.Unlinkat(parent, LogsName, 0); err != nil && err != unix.ENOENT && err != unix.EISDIR {
				return fmt.Errorf("removing what is called %s: %w", LogsName, err)
			}
			continue
		}
		_, err = own(now, logsMode)
		_, sweepErr := sweep(now)
		id, idErr := idOf(now)
		if err := errors.Join(err, sweepErr, idErr, now.Close()); err != nil {
			return err
		}
		if is, err := c.called(LogsName); err == nil && is == id {
			return nil
		}
	}
	return fmt.Errorf("somebody puts something else in the place of %s again and again", LogsName)
}

// called is the ID of what has a name in the shared directory, a link itself included.
func (c *closed) called(name string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(c.shared.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil { //nolint:gosec // a descriptor
		return ID{}, err
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, nil
}

func (c *closed) close() error {
	var errs []error
	for _, dir := range []*os.File{c.shared, c.logs} {
		if dir != nil {
			errs = append(errs, dir.Close())
		}
	}
	return errors.Join(errs...)
}

// own makes a directory root's, with this mode, and tells whether it was not.
func own(dir *os.File, mode uint32) (changed bool, err error) {
	fd := int(dir.Fd()) //nolint:gosec // a descriptor
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("%s: fstat: %w", dir.Name(), err)
	}
	if st.Uid == 0 && st.Gid == 0 && st.Mode&0o7777 == mode {
		return false, nil
	}
	// The mode first: it is what lets everybody in.
	if err := unix.Fchmod(fd, mode); err != nil {
		return true, fmt.Errorf("%s: fchmod: %w", dir.Name(), err)
	}
	if err := unix.Fchown(fd, 0, 0); err != nil {
		return true, fmt.Errorf("%s: fchown: %w", dir.Name(), err)
	}
	return true, nil
}

// sweep removes from Nomad's log files what could lead root elsewhere, or make it wait: links, files with another name, FIFOs
// that are not root's, and all that is neither file nor FIFO. A directory with something in it stays: root opens nothing below.
// Files of other users stay, too: tasks of other drivers have written them, and root only appends to them.
func sweep(logs *os.File) (removed []string, err error) {
	fd := int(logs.Fd()) //nolint:gosec // a descriptor
	if _, err := logs.Seek(0, 0); err != nil {
		return nil, err
	}
	names, err := logs.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // it is gone
		}
		flags := 0
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			if st.Nlink == 1 {
				continue
			}
		case unix.S_IFIFO:
			if st.Nlink == 1 && st.Uid == 0 {
				continue
			}
		case unix.S_IFDIR:
			flags = unix.AT_REMOVEDIR
		}
		switch err := unix.Unlinkat(fd, name, flags); err {
		case nil:
			removed = append(removed, name)
		case unix.ENOENT, unix.ENOTEMPTY:
		default:
			errs = append(errs, fmt.Errorf("removing %q from %s: %w", name, logs.Name(), err))
		}
	}
	return removed, errors.Join(errs...)
}
