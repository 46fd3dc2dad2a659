package allocdir

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard keeps allocations closed off as long as tasks of theirs are there. One inotify(7) instance hears of it when Nomad opens
// their directories again (IN_ATTRIB). A nil guard guards nothing.
type Guard struct {
	inotify *os.File
	conn    syscall.RawConn
	report  func(Report)
	ended   chan struct{}

	mu      sync.Mutex
	guarded map[string]*guarded // by path
	watched map[int]*guarded    // by watch descriptor
}

// guarded is an allocation and how many hold it.
type guarded struct {
	*closed
	holders int
	watches []int
}

// pace bounds how often the guard looks for nothing, and is little beside what a process needs to be woken.
const pace = time.Millisecond

// Report is what was found when an allocation was closed off again.
type Report struct {
	Path    string   // of the allocation's directory; empty when the guard cannot go on
	Removed []string // names in alloc/logs
	Err     error    // wraps ErrReplaced when root must not open files there any more
}

// NewGuard makes a guard of nothing yet. report is called from the guard's goroutine, and must not call the guard.
func NewGuard(report func(Report)) (*Guard, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify") //nolint:gosec // not negative
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	g := &Guard{inotify: file, conn: conn, report: report, ended: make(chan struct{}),
		guarded: map[string]*guarded{}, watched: map[int]*guarded{}}
	go g.run()
	return g, nil
}

// Close ends the guard. The directories stay as they are.
func (g *Guard) Close() error {
	if g == nil {
		return nil
	}
	err := g.inotify.Close()
	<-g.ended
	g.mu.Lock()
	defer g.mu.Unlock()
	for path, a := range g.guarded {
		delete(g.guarded, path)
		err = errors.Join(err, a.close())
	}
	return err
}

// Hold closes off an allocation until release is called by all who hold it. was is the ID of its logs when that was done
// before, in an earlier life of this process, else zero. removed are names in alloc/logs that had no business there. The error
// wraps ErrReplaced when alloc/logs is not what it was.
func (g *Guard) Hold(path string, was ID) (id ID, removed []string, release func(), err error) {
	if g == nil {
		return ID{}, nil, func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a, found := g.guarded[path]
	if found {
		removed, err = a.restore(true)
		if err == nil && was != (ID{}) && was != a.id {
			err = a.replaced(nil)
		}
		if err != nil {
			return ID{}, removed, nil, err
		}
	} else {
		var c *closed
		if c, removed, err = closeOff(path, was); err != nil {
			return ID{}, removed, nil, err
		}
		a = &guarded{closed: c}
		if err := g.watch(a); err != nil {
			return ID{}, removed, nil, errors.Join(err, a.close())
		}
		g.guarded[path] = a
	}
	a.holders++
	return a.id, removed, sync.OnceFunc(func() { g.release(path, a) }), nil
}

// Restore closes off an allocation, should somebody have opened it, and returns when that is done. One that is not held is not
// kept so.
func (g *Guard) Restore(path string) (removed []string, err error) {
	if g == nil {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if a, found := g.guarded[path]; found {
		return a.restore(true)
	}
	c, removed, err := closeOff(path, ID{})
	if err != nil {
		return removed, err
	}
	return removed, c.close()
}

// watch is called with the lock held. What was opened between closing off and this is closed again.
func (g *Guard) watch(a *guarded) error {
	for _, dir := range []*os.File{a.shared, a.logs} {
		var id int
		err := g.control(func(inotify int) (err error) {
			id, err = unix.InotifyAddWatch(inotify, "/proc/self/fd/"+strconv.Itoa(int(dir.Fd())), unix.IN_ATTRIB) //nolint:gosec // a descriptor
			return err
		})
		if err != nil {
			g.unwatch(a)
			return fmt.Errorf("watching %s: %w (is fs.inotify.max_user_watches too low?)", dir.Name(), err)
		}
		a.watches = append(a.watches, id)
		g.watched[id] = a
	}
	_, err := a.restore(false)
	if err != nil {
		g.unwatch(a)
	}
	return err
}

// unwatch is called with the lock held.
func (g *Guard) unwatch(a *guarded) {
	for _, id := range a.watches {
		delete(g.watched, id)
		_ = g.control(func(inotify int) error { // fails when the directory is gone, and the watch with it
			_, err := unix.InotifyRmWatch(inotify, uint32(id)) //nolint:gosec // came from the kernel
			return err
		})
	}
}

func (g *Guard) release(path string, a *guarded) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.holders--; a.holders > 0 || g.guarded[path] != a {
		return
	}
	delete(g.guarded, path)
	g.unwatch(a)
	_ = a.close()
}

func (g *Guard) control(call func(inotify int) error) (err error) {
	outer := g.conn.Control(func(fd uintptr) { err = call(int(fd)) }) //nolint:gosec // a descriptor
	return errors.Join(outer, err)
}

// run closes off what was opened. It ends with Close.
func (g *Guard) run() {
	defer close(g.ended)
	var events [4096]byte
	for {
		n, err := g.inotify.Read(events[:])
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				g.report(Report{Err: fmt.Errorf("reading inotify events: %w", err)})
			}
			return
		}
		reports := g.handle(events[:n])
		for _, report := range reports {
			g.report(report)
		}
		if reports == nil {
			time.Sleep(pace) // tasks may touch the directory as often as they like
		}
	}
}

// handle looks at the allocations that events are about.
func (g *Guard) handle(events []byte) (reports []Report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&events[0])) //nolint:gosec // the kernel's struct, inotify(7)
		events = events[min(unix.SizeofInotifyEvent+int(event.Len), len(events)):]
		for _, a := range g.about(event) {
			if removed, err := a.restore(false); removed != nil || err != nil {
				reports = append(reports, Report{Path: a.path, Removed: removed, Err: err})
			}
		}
	}
	return reports
}

// about are the allocations of an event: all, when the kernel had to drop some.
func (g *Guard) about(event *unix.InotifyEvent) []*guarded {
	if event.Mask&unix.IN_Q_OVERFLOW == 0 {
		if a, found := g.watched[int(event.Wd)]; found {
			return []*guarded{a}
		}
		return nil
	}
	var all []*guarded
	for _, a := range g.guarded {
		all = append(all, a)
	}
	return all
}
