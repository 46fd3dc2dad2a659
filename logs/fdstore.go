package logs

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// fdStore is this service's descriptor store in systemd (systemd.service(5), FileDescriptorStoreMax=), which
// hands the descriptors back when the process is started again. Without systemd it does nothing.
type fdStore struct {
	socket string // $NOTIFY_SOCKET
}

// openStore returns the store, and by name what it held.
func openStore() (fdStore, map[string]*os.File) {
	kept := make(map[string]*os.File)
	for _, f := range activation.Files(true) {
		kept[f.Name()] = f
	}
	return fdStore{socket: os.Getenv("NOTIFY_SOCKET")}, kept
}

// add has the store keep f under a name of at most 255 ASCII characters without a colon.
func (s fdStore) add(name string, f *os.File) error {
	return control(f, func(fd int) error {
		return s.notify("FDSTORE=1\nFDNAME="+name, fd)
	})
}

// remove has the store close what it keeps under a name.
func (s fdStore) remove(name string) error {
	return s.notify("FDSTOREREMOVE=1\nFDNAME=" + name)
}

// ready tells systemd that the process serves.
func (s fdStore) ready() error { return s.notify("READY=1") }

// barrier waits until systemd has done all that it was told before (sd_notify(3), BARRIER=1).
func (s fdStore) barrier() error {
	if s.socket == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	sent := control(w, func(fd int) error { return s.notify("BARRIER=1", fd) })
	if err := errors.Join(sent, w.Close()); err != nil {
		return errors.Join(err, r.Close())
	}
	// systemd closes its copy of the writing end.
	err = r.SetReadDeadline(time.Now().Add(notifyTimeout))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return errors.Join(err, r.Close())
}

// notifyTimeout bounds the wait for systemd to take a notification.
const notifyTimeout = 5 * time.Second

func (s fdStore) notify(state string, fds ...int) (err error) {
	if s.socket == "" {
		return nil
	}
	// For each message anew, as sd_notify does: the service manager may execute itself anew.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("sd_notify: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	// Not WriteMsgUnix, which refuses connected datagram sockets.
	outer := raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), []byte(state), rights, nil, unix.MSG_NOSIGNAL) //nolint:gosec // a descriptor
		return err != unix.EAGAIN
	})
	if err := errors.Join(outer, err); err != nil {
		return fmt.Errorf("sd_notify: %w", err)
	}
	return nil
}

// peerUID returns the user at the other end of a Unix socket (unix(7), SO_PEERCRED).
func peerUID(c syscall.Conn) (uint32, error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	outer := conn.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) //nolint:gosec // a descriptor
	})
	if err := errors.Join(outer, err); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
