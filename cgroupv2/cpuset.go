package cgroupv2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CPUs returns the processors that the processes of a cgroup may run on (cpuset.cpus.effective),
// as a list in the format of cpuset(7). The error is ErrGone when the cgroup does not exist or
// has no cpuset controller.
func (h Hierarchy) CPUs(path string) (string, error) {
	dir, err := h.openDir(path)
	if err != nil {
		return "", err
	}
	defer closeDir(dir)
	file, err := openIn(dir, "cpuset.cpus.effective")
	if err != nil {
		return "", cgroupError(path, err)
	}
	text, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", cgroupError(path, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// SetCPUs lets the processes of a cgroup run on these processors only (cpuset.cpus), unless they
// do so already. The error is ErrGone when the cgroup does not exist or has no cpuset controller.
func (h Hierarchy) SetCPUs(path, cpus string) error {
	dir, err := h.openDir(path)
	if err != nil {
		return err
	}
	defer closeDir(dir)
	fd, err := unix.Openat(dir, "cpuset.cpus", unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return cgroupError(path, err)
	}
	file := os.NewFile(uintptr(fd), "cpuset.cpus")
	set, err := io.ReadAll(file)
	if err == nil && strings.TrimSpace(string(set)) != cpus {
		_, err = file.WriteAt([]byte(cpus), 0)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return cgroupError(path, err)
	}
	return nil
}

// CPUWatch tells when processors are assigned anew to cgroups: one inotify(7) instance. The
// kernel reports what is written to cpuset.cpus, not what follows from it for cgroups below. A nil
// watch watches nothing.
type CPUWatch struct {
	inotify *os.File
	conn    syscall.RawConn
	changes chan struct{}
}

// WatchCPUs makes a watch of no cgroup yet.
func WatchCPUs() (*CPUWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify") // #nosec G115 -- a descriptor
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	w := &CPUWatch{inotify: file, conn: conn, changes: make(chan struct{}, 1)}
	go w.run()
	return w, nil
}

// run ends with Close. What an event says does not matter: whoever waits looks at all.
func (w *CPUWatch) run() {
	var events [4096]byte
	for {
		if _, err := w.inotify.Read(events[:]); err != nil {
			return
		}
		w.Wake()
	}
}

// Changes gets a value when processors may have been assigned anew.
func (w *CPUWatch) Changes() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.changes
}

// Wake gives Changes a value.
func (w *CPUWatch) Wake() {
	if w == nil {
		return
	}
	select {
	case w.changes <- struct{}{}:
	default: // there is one already
	}
}

// Add watches a cgroup, until remove is called: the kernel does not end the watch with the
// cgroup. Who adds a cgroup twice watches it once. The error is ErrGone when the cgroup does not
// exist or has no cpuset controller.
func (w *CPUWatch) Add(h Hierarchy, path string) (remove func(), err error) {
	if w == nil {
		return func() {}, nil
	}
	dir, err := h.openDir(path)
	if err != nil {
		return nil, err
	}
	defer closeDir(dir)
	var id int
	err = w.control(func(inotify int) (err error) {
		id, err = unix.InotifyAddWatch(inotify, "/proc/self/fd/"+strconv.Itoa(dir)+"/cpuset.cpus", unix.IN_MODIFY)
		return err
	})
	if err != nil {
		return nil, cgroupError(path, err)
	}
	return func() {
		_ = w.control(func(inotify int) error { // fails after Close, when there is nothing to remove
			_, err := unix.InotifyRmWatch(inotify, uint32(id)) // #nosec G115 -- came from the kernel
			return err
		})
	}, nil
}

func (w *CPUWatch) control(call func(inotify int) error) (err error) {
	outer := w.conn.Control(func(fd uintptr) { err = call(int(fd)) }) // #nosec G115 -- a descriptor
	return errors.Join(outer, err)
}

// Close ends the watch.
func (w *CPUWatch) Close() error {
	if w == nil {
		return nil
	}
	return w.inotify.Close()
}
