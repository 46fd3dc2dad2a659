package rootless

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrIDMapUnsupported is wrapped by Stage.Add's error when this kernel cannot make an ID-mapped mount of the source's
// filesystem. tmpfs can since Linux 6.3, ext4 since 5.12, xfs since 5.15 (mount_setattr(2)).
var ErrIDMapUnsupported = errors.New("this kernel cannot ID-map mounts of this filesystem (tmpfs needs Linux 6.3)")

// CheckIDMap makes sure that what root owns below a trusted directory could be shown to a host user as their own. It makes
// such a mount, attaches it nowhere and lets go of it. It needs root. The error wraps ErrIDMapUnsupported when this kernel
// cannot.
func CheckIDMap(dir string) error {
	source, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	someone := Stage{user: User{UID: 1, GID: 1}}
	tree, err := someone.cloneTree(StageMount{Source: source, IDMapRoot: true})
	if err != nil {
		return errors.Join(fmt.Errorf("ID-mapping a mount of %s: %w", dir, err), source.Close())
	}
	return errors.Join(unix.Close(tree), source.Close())
}

// rootToUser makes a user namespace whose IDs 0 are the user's UID and GID. On a mount that is ID-mapped with it,
// what root owns on disk belongs to the user, and what anybody else owns belongs to nobody.
//
// The GID is that of root's group in the user's containers, which many images run with under another UID. Others on the
// host may have it, too: what keeps them from the mount is that no path leads there but the user's own.
func rootToUser(u User) (*os.File, error) {
	// The namespace needs a process to be born with. It is this program, stopped by ptrace(2) at its exec before it
	// has run an instruction, and killed again. Tracing binds it to this OS thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{
		Env: []string{},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(u.UID), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(u.GID), Size: 1}},
			Ptrace:      true,
			Pdeathsig:   unix.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a user namespace for host user %s: %w (is user.max_user_namespaces 0?)", u, err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", child.Pid))
	if kerr := child.Kill(); err == nil {
		err = kerr
	}
	if _, werr := child.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		err = fmt.Errorf("making a user namespace for host user %s: %w", u, err)
		if ns != nil {
			err = errors.Join(err, ns.Close())
		}
		return nil, err
	}
	return ns, nil
}
