package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fifo is the writing side of one of Nomad's FIFOs.
//
// It is open for reading, too (fifo(7): Linux allows O_RDWR), though it is never read: so opening it
// waits for no reader, writing never fails for want of one, what lies in it survives a logmon that is
// replaced, and systemd's descriptor store, which drops a descriptor that hangs up, keeps it.
// The reader still sees the end of file once it is closed here and in the store. A reader that is gone
// looks like one that is slow: both leave the FIFO full.
type fifo struct {
	path    string
	file    *os.File
	conn    syscall.RawConn
	written int64 // bytes, counted so that written - unread is what the reader has taken since it was opened
	midLine bool  // the last byte written was not a newline
}

// openFIFO opens the FIFO at path, or takes one that was kept.
func openFIFO(path string, kept *os.File) (*fifo, error) {
	f := kept
	if f == nil {
		var err error
		if f, err = openOwnFIFO(path); err != nil {
			return nil, err
		}
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &fifo{path: path, file: f, conn: conn}
	if w.written, err = w.unread(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// openOwnFIFO opens a FIFO that Nomad made. It lies two directories below one that only Nomad writes
// (ALLOC/alloc/logs/.TASK.stdout.fifo). Nomad lets everybody write in those two until a task
// starts: what somebody has put there must not lead to another allocation's FIFO.
func openOwnFIFO(path string) (_ *os.File, err error) {
	dir, err := os.OpenRoot(filepath.Dir(filepath.Dir(path)))
	if err != nil {
		return nil, fmt.Errorf("FIFO %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	name := filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
	f, err := dir.OpenFile(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("FIFO %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().Type() != os.ModeNamedPipe || !ok || int(st.Uid) != os.Geteuid() {
		return nil, errors.Join(fmt.Errorf("FIFO %s: not a FIFO of Nomad's: %s", path, info.Mode()), f.Close())
	}
	return f, nil
}

// tryWrite writes what the FIFO has room for, perhaps nothing, without waiting.
func (w *fifo) tryWrite(p []byte) (n int, err error) {
	return w.write(p, false)
}

// waitWrite waits until the FIFO has room, and writes what fits: nothing when interrupt ended the wait.
func (w *fifo) waitWrite(p []byte) (n int, err error) {
	return w.write(p, true)
}

func (w *fifo) write(p []byte, wait bool) (n int, err error) {
	connErr := w.conn.Write(func(fd uintptr) bool {
		n, err = ignoreEINTR(func() (int, error) { return unix.Write(int(fd), p) }) //nolint:gosec // a descriptor
		if err != unix.EAGAIN {
			return true
		}
		n, err = 0, nil
		return !wait
	})
	if errors.Is(connErr, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	if err = errors.Join(connErr, err); err != nil {
		return 0, fmt.Errorf("FIFO %s: %w", w.path, err)
	}
	if n > 0 {
		w.written += int64(n)
		w.midLine = p[n-1] != '\n'
	}
	return n, nil
}

// interrupt ends the current waitWrite, or the next one; it may be called from any goroutine.
func (w *fifo) interrupt() {
	_ = w.file.SetWriteDeadline(time.Unix(1, 0)) // fails only when it is closed
}

// resume makes writes wait again after an interrupt.
func (w *fifo) resume() {
	_ = w.file.SetWriteDeadline(time.Time{})
}

// unread returns how many bytes lie in the FIFO (FIONREAD of pipe(7), which Linux also calls TIOCINQ).
func (w *fifo) unread() (int64, error) {
	var n int
	var err error
	connErr := w.conn.Control(func(fd uintptr) {
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) //nolint:gosec // a descriptor
	})
	return int64(n), errors.Join(connErr, err)
}

func (w *fifo) close() error { return w.file.Close() }

// ignoreEINTR repeats a system call that a signal interrupted.
func ignoreEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
