// Package cgroupv2 finds and reads control groups of the unified hierarchy: which cgroup a
// process is in, which controllers a host user's manager was given, what a cgroup has used.
//
// File names and formats are those of the kernel's Documentation/admin-guide/cgroup-v2.rst,
// called "cgroup-v2.rst" below.
package cgroupv2

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrGone says that a cgroup does not exist, or no longer.
var ErrGone = errors.New("cgroup does not exist")

// Hierarchy is a cgroup v2 tree. Paths of cgroups are absolute and start at its root, as in
// /proc/PID/cgroup.
type Hierarchy struct {
	Root string // where the tree is mounted
}

// Controllers returns the controllers that are available in a cgroup, in the kernel's order.
// The error is ErrGone when the cgroup does not exist.
func (h Hierarchy) Controllers(path string) ([]string, error) {
	dir, err := h.openDir(path)
	if err != nil {
		return nil, err
	}
	defer closeDir(dir)
	file, err := openIn(dir, "cgroup.controllers")
	if err != nil {
		return nil, cgroupError(path, err)
	}
	text, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, cgroupError(path, err)
	}
	return strings.Fields(string(text)), nil
}

// openDir opens the directory of a cgroup, from which nothing leads out of the hierarchy: the
// path may come from a host user.
func (h Hierarchy) openDir(path string) (int, error) {
	if err := checkPath(path); err != nil {
		return -1, err
	}
	root, err := unix.Open(h.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: h.Root, Err: err}
	}
	defer closeDir(root)
	dir, err := unix.Openat2(root, "."+path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return -1, cgroupError(path, err)
	}
	return dir, nil
}

// closeDir closes a descriptor that was opened with O_PATH: nothing can be lost with it.
func closeDir(dir int) { _ = unix.Close(dir) }

// openIn opens one file of a cgroup. The file is not made known to Go's poller, which would
// be woken by every change of a file like memory.events.
func openIn(dir int, name string) (*os.File, error) {
	fd, err := openBare(dir, name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openBare is openIn without an os.File, which costs more than the system calls of one look do.
func openBare(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// cgroupError names the cgroup, and says ErrGone where the kernel says that it is not there.
func cgroupError(path string, err error) error {
	// ENODEV is what a file of a removed cgroup answers that was opened before (kernfs).
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		err = ErrGone
	}
	return fmt.Errorf("cgroup %s: %w", path, err)
}
