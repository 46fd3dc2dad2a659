package rootless

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const keepID = ^uintptr(0) // -1: setresuid(2) leaves this ID as it is

// Do runs fn with the effective UID and GID, and thereby the filesystem UID and GID, of the user. fn runs on an
// OS thread of its own, to which the change is limited; goroutines that fn starts do not inherit it. When the
// process is that user already, fn simply runs.
//
// The real and saved UIDs stay root's. So the user can neither signal nor trace the thread, and their FUSE mounts
// refuse it instead of making it hang (fuse_allow_current_process in the kernel compares all three UIDs). The only
// group is the user's primary one: the driver needs nothing but what the user owns.
func (u User) Do(fn func() error) error {
	if u.UID == Unknown.UID || u.GID == Unknown.GID {
		return errors.New("cannot act as an unknown host user")
	}
	self := uint32(os.Geteuid()) //nolint:gosec // UIDs are 32 bits wide
	if self == u.UID {
		return fn()
	}
	if self != 0 {
		return fmt.Errorf("cannot act as host user %s: this process runs as UID %d; only root can act as others", u, self)
	}
	result := make(chan error, 1)
	go func() {
		var err error
		defer func() { result <- err }()
		// Unlocked only when the thread is root again. Otherwise the runtime ends the thread with this goroutine.
		runtime.LockOSThread()
		gid := unix.Getegid()
		groups, err := unix.Getgroups()
		if err != nil {
			err = fmt.Errorf("acting as host user %s: reading own groups: %w", u, err)
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if restore(gid, groups) == nil {
				runtime.UnlockOSThread()
			}
		}()
		if err = become(u); err == nil {
			err = fn()
		}
	}()
	return <-result
}

// become and restore change the calling thread only: raw system calls, since those of package syscall change
// every thread of the process.
func become(u User) error {
	if err := setgroups([]uint32{u.GID}); err != nil {
		return fmt.Errorf("acting as host user %s: setgroups: %w", u, err)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keepID, uintptr(u.GID), keepID); errno != 0 {
		return fmt.Errorf("acting as host user %s: setresgid: %w", u, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keepID, uintptr(u.UID), keepID); errno != 0 {
		return fmt.Errorf("acting as host user %s: setresuid: %w", u, errno)
	}
	return nil
}

func restore(gid int, groups []int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keepID, 0, keepID); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, keepID, uintptr(gid), keepID); errno != 0 { //nolint:gosec // not negative
		return errno
	}
	ids := make([]uint32, len(groups))
	for i, g := range groups {
		ids[i] = uint32(g) //nolint:gosec // GIDs are 32 bits wide
	}
	return setgroups(ids)
}

func setgroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0]) //nolint:gosec // a system call that only exists for all threads at once elsewhere
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return errno
	}
	return nil
}

// DialUnix connects to the unix socket at path with the user's rights and credentials.
func (u User) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	var conn net.Conn
	err := u.Do(func() error {
		var err error
		// For a unix socket the dialler calls connect(2) here, on this thread.
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}
