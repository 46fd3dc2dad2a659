package cgroupv2

import (
	"bytes"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// kernelLog gives every reader the whole log, a record with each read(2) (the kernel's
// Documentation/ABI/testing/dev-kmsg).
const kernelLog = "/dev/kmsg"

// OOMKillLogged tells whether the kernel has logged an OOM kill of a process whose cgroup has
// the given name, such as a container's ID, in its path. The log still knows when the cgroup
// was removed before anybody could look, but not all: the kernel reports ten kills in five
// seconds, forgets the oldest, and shows its log to root alone (kernel.dmesg_restrict).
func OOMKillLogged(name string) (bool, error) {
	fd, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &fs.PathError{Op: "open", Path: kernelLog, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	found, err := hasOOMKill(func(record []byte) (int, error) { return unix.Read(fd, record) }, name)
	if err != nil {
		return false, &fs.PathError{Op: "read", Path: kernelLog, Err: err}
	}
	return found, nil
}

// hasOOMKill looks for the kill in the records that read returns.
func hasOOMKill(read func([]byte) (int, error), name string) (bool, error) {
	record := make([]byte, 8<<10) // the kernel's longest (CONSOLE_EXT_LOG_MAX)
	for {
		n, err := read(record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil // the end of the log
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			continue // EPIPE: the record was overwritten, the next read is of the oldest one
		case err != nil:
			return false, err
		}
		// "oom-kill:constraint=…,oom_memcg=PATH,task_memcg=PATH,task=NAME,pid=PID,uid=UID" (mm/oom_kill.c)
		_, victim, _ := bytes.Cut(record[:n], []byte(",task_memcg="))
		path, _, _ := bytes.Cut(victim, []byte(",task="))
		if bytes.Contains(path, []byte(name)) {
			return true, nil
		}
	}
}
