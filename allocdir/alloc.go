// Package allocdir deals with what Nomad keeps of an allocation on the host. Nomad makes most of these directories for
// everybody to write (mode 0777, owner nobody), and opens files in alloc/logs by their paths, as root and over symbolic
// links. So nothing here is opened by its path, and while tasks are there alloc and alloc/logs are root's: others may make files in
// alloc, and move only their own.
package allocdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names below an allocation's directory, as Nomad has them (client/allocdir).
const (
	shared = "alloc"
	// LogsName is the name of Nomad's log directory in the shared one.
	LogsName = "logs"
	private  = "private"
	secrets  = "secrets"
	local    = "local"
)

// Dir is an allocation's directory. Root alone can change what it is called and what its entries are called.
type Dir struct{ root *os.File }

// CheckTask refuses names of tasks whose directories Nomad puts where something else is: those of the allocation itself and of
// what its tasks share, or even all allocations.
func CheckTask(name string) error {
	if name == shared || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return fmt.Errorf("Nomad gives a task of this name a directory that is not its own; call it something else") //nolint:staticcheck // a name
	}
	return nil
}

// Open opens the directory of an allocation, whose path is Nomad's word.
func Open(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the allocation's directory %s: %w", path, err)
	}
	return &Dir{root: os.NewFile(uintptr(fd), path)}, nil //nolint:gosec // not negative
}

// Close closes it.
func (d *Dir) Close() error { return d.root.Close() }

// Shared opens the directory that the allocation's tasks share.
func (d *Dir) Shared() (*os.File, error) { return open(d.root, shared, unix.O_PATH) }

// Local opens a task's own directory.
func (d *Dir) Local(task string) (*os.File, error) {
	return open(d.root, filepath.Join(task, local), unix.O_PATH)
}

// Secrets opens the directory of a task's secrets. For an agent that runs as root Nomad keeps them in a tmpfs: what lies in
// the task's directory under that name and is neither such a mount nor root's is refused.
func (d *Dir) Secrets(task string, agentIsRoot bool) (_ *os.File, err error) {
	parent, err := open(d.root, task, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, parent.Close()) }()
	dir, err := open(parent, secrets, unix.O_PATH)
	if err != nil || !agentIsRoot {
		return dir, err
	}
	if err := checkTmpfs(dir, parent); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir.Name(), err), dir.Close())
	}
	return dir, nil
}

func checkTmpfs(dir, parent *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil { //nolint:gosec // a descriptor
		return fmt.Errorf("fstatfs: %w", err)
	}
	id, err := idOf(dir)
	if err != nil {
		return err
	}
	above, err := idOf(parent)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil { //nolint:gosec // a descriptor
		return fmt.Errorf("fstat: %w", err)
	}
	mounted := fs.Type == unix.TMPFS_MAGIC && id.Dev != above.Dev
	// After a reboot Nomad 1.6 mounts nothing, and uses the mount point, which nobody but root can make.
	if mountPoint := st.Uid == 0 && st.Mode&0o022 == 0; !mounted && !mountPoint {
		return errors.New("this is not the tmpfs that Nomad has mounted for the task's secrets; something else is in its place")
	}
	return nil
}

// ID tells an inode from all others of this boot.
type ID struct{ Dev, Ino uint64 }

func idOf(f *os.File) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil { //nolint:gosec // a descriptor
		return ID{}, fmt.Errorf("%s: fstat: %w", f.Name(), err)
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, nil
}

// open opens a directory below dir, over no symbolic link: none of these ever has one in Nomad's layout. What is no directory
// is refused without waiting for it, as a FIFO would make open(2) do.
func open(dir *os.File, rel string, flags uint64) (*os.File, error) {
	return openat(dir, rel, flags|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func openat(dir *os.File, rel string, flags, resolve uint64) (*os.File, error) {
	path := filepath.Join(dir.Name(), rel)
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), rel, how) //nolint:gosec // a descriptor
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil //nolint:gosec // not negative
		case err != unix.EINTR:
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
	}
}
