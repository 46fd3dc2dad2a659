package rootless

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const hostMounts = "/proc/1/ns/mnt"

// InHostMounts runs fn in PID 1's mount namespace. Only mounts made there reach the mount namespaces of rootless
// podman, which are slaves of it (mount_namespaces(7)); a unit with PrivateTmp= and the like has one of its own.
func InHostMounts(fn func() error) error {
	host, err := os.Open(hostMounts)
	if err != nil {
		return fmt.Errorf("opening PID 1's mount namespace: %w", err)
	}
	err = inMounts(host, fn)
	if cerr := host.Close(); err == nil && cerr != nil {
		err = cerr
	}
	return err
}

func inMounts(ns *os.File, fn func() error) error {
	theirs, err := ns.Stat()
	if err != nil {
		return err
	}
	ours, err := os.Stat("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	if os.SameFile(theirs, ours) {
		return fn()
	}
	return onThrowawayThread(func() error {
		// setns(2) refuses a thread that shares its root and working directory with others.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil { //nolint:gosec // a descriptor
			return fmt.Errorf("entering PID 1's mount namespace: %w", err)
		}
		return fn()
	})
}

// onThrowawayThread runs fn on an OS thread that ends with it. That is never the process's first thread: the runtime
// cannot end that one, and /proc/self would show what fn made of it ever after.
func onThrowawayThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: so the runtime ends the thread with this goroutine.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			result <- onThrowawayThread(fn) // on another one, since this goroutine holds the first
			return
		}
		result <- fn()
	}()
	return <-result
}
