package exits

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loop waits for the end of watched processes, with one goroutine for all of them.
//
// The pidfds are in an epoll instance, which is itself a descriptor that becomes readable:
// Go's runtime waits for it as it waits for sockets. So the loop holds no OS thread, and
// closing the descriptor ends it.
type Loop struct {
	epoll *os.File
	conn  syscall.RawConn
	ended chan struct{} // closed when the goroutine has returned

	mu      sync.Mutex
	last    int32              // key of the last watch
	watched map[int32]*Watched // by their keys, until the process ends or the watch is closed
}

// New starts a loop.
func New() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// Only a non-blocking descriptor is waited for by Go's runtime.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("epoll descriptor: %w", err), unix.Close(fd))
	}
	epoll := os.NewFile(uintptr(fd), "exits")
	conn, err := epoll.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("epoll descriptor: %w", err), epoll.Close())
	}
	l := &Loop{epoll: epoll, conn: conn, ended: make(chan struct{}), watched: make(map[int32]*Watched)}
	go l.run()
	return l, nil
}

// Close ends the loop. Watches that are still open stay open but are never done.
func (l *Loop) Close() error {
	err := l.epoll.Close()
	<-l.ended
	return err
}

// Watch waits for the end of p. It returns ErrGone when p has ended already and, perhaps, its
// PID belongs to another process. When p has ended but was not yet reaped, the watch is done
// at once.
func (l *Loop) Watch(p Process) (*Watched, error) {
	// FindProcess opens a pidfd, which from then on means the process that had the PID at
	// that moment. If the PID's process still is p afterwards, it was p then.
	process, err := os.FindProcess(p.PID)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", p.PID, err)
	}
	w := &Watched{loop: l, id: p, process: process, done: make(chan struct{}), release: sync.OnceValue(process.Release)}
	if err := l.add(w); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (l *Loop) add(w *Watched) error {
	now, err := Identify(w.id.PID)
	if err != nil {
		return err
	}
	if now != w.id {
		return fmt.Errorf("process %d: %w, and another one has its PID", w.id.PID, ErrGone)
	}

	// With the lock held the loop cannot miss the key of an event that comes at once.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	// The data that epoll returns with an event is a key of our own and not the descriptor:
	// an event that was fetched before its watch was closed must not be taken for one of the
	// next owner of that number.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: l.last}
	var ctlErr error
	err = w.process.WithHandle(func(pidfd uintptr) {
		err := l.conn.Control(func(epoll uintptr) {
			ctlErr = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(pidfd), &event)
		})
		ctlErr = errors.Join(err, ctlErr)
	})
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return fmt.Errorf("process %d: %w", w.id.PID, ErrGone)
	case errors.Is(err, os.ErrNoHandle):
		return fmt.Errorf("process %d has no pidfd: %w (it needs Linux 5.4, and a seccomp profile that allows pidfd_open)", w.id.PID, err)
	case err != nil:
		return fmt.Errorf("pidfd of process %d: %w", w.id.PID, err)
	case ctlErr != nil:
		return fmt.Errorf("wait for process %d: %w", w.id.PID, ctlErr)
	}
	w.key = l.last
	l.watched[w.key] = w
	return nil
}

func (l *Loop) run() {
	defer close(l.ended)
	events := make([]unix.EpollEvent, 128)
	for {
		var n int
		// Read calls the function, and when that says false again as soon as the runtime
		// saw the epoll descriptor become readable. It fails once the loop is closed.
		err := l.conn.Read(func(epoll uintptr) bool {
			// All errors of epoll_wait(2) but EINTR are mistakes in the arguments, and a
			// call that does not wait is not interrupted.
			n, _ = unix.EpollWait(int(epoll), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		l.mu.Lock()
		for _, event := range events[:n] {
			w, ok := l.watched[event.Fd]
			if !ok {
				continue
			}
			if w.look != nil {
				w.look(w.files[event.Fd])
			}
			if event.Fd == w.key {
				w.forget()
				close(w.done)
			}
		}
		l.mu.Unlock()
	}
}

// Watched is one process in a loop. Its pidfd is open until Close, so that a signal can never
// reach another process.
type Watched struct {
	loop    *Loop
	id      Process
	key     int32
	files   map[int32]*os.File     // those of LookAt, by their keys
	look    func(changed *os.File) // nil without them
	process *os.Process
	done    chan struct{}
	release func() error
}

// Done is closed when the process has ended, and only then: closing the watch or the loop
// does not close it.
func (w *Watched) Done() <-chan struct{} { return w.done }

// LookAt has the loop call look with each of the files that the kernel reports to have changed (EPOLLPRI, as files of cgroups
// do), and once more, with nil, when the process ends, before Done: for what is gone soon after the end. A file of a cgroup that
// was removed is reported for what changed before, not for the removal. The loop waits for look, which must be quick. LookAt is
// called once for a watch, and holds until that ends.
func (w *Watched) LookAt(look func(changed *os.File), files ...*os.File) error {
	l := w.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.watched[w.key]; !ok {
		return nil // over
	}
	w.look, w.files = look, make(map[int32]*os.File, len(files))
	for _, file := range files {
		l.last++
		// Edges only: a file of a cgroup that was removed reports a change for ever. The removal makes no edge, only
		// kernfs_notify does (the kernel's fs/kernfs/file.c).
		event := unix.EpollEvent{Events: unix.EPOLLPRI | unix.EPOLLET, Fd: l.last}
		var ctlErr error
		err := l.conn.Control(func(epoll uintptr) {
			ctlErr = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(file.Fd()), &event)
		})
		if err := errors.Join(err, ctlErr); err != nil {
			return fmt.Errorf("wait for changes of %s: %w", file.Name(), err)
		}
		w.files[l.last] = file
		l.watched[l.last] = w
	}
	return nil
}

// forget takes the watch out of the loop, which is locked.
func (w *Watched) forget() {
	delete(w.loop.watched, w.key)
	for key := range w.files {
		delete(w.loop.watched, key)
	}
}

// Signal sends a signal to the process (pidfd_send_signal(2)). The error is ErrGone when the
// process has ended and was reaped. Signal 0 only asks whether it has, in other words whether
// what was read from /proc/PID before is about this process.
func (w *Watched) Signal(sig unix.Signal) error {
	err := w.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process %d: %w", w.id.PID, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("signal %d to process %d: %w", int(sig), w.id.PID, err)
	}
	return nil
}

// Close ends the watch and leaves the process alone. It may be called more than once.
func (w *Watched) Close() error {
	w.loop.mu.Lock()
	w.forget()
	w.loop.mu.Unlock()
	// Closing the pidfd takes it out of the epoll instance (epoll(7)).
	return w.release()
}
