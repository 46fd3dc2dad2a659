package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells when files are written to: one inotify(7) instance for the process. It watches
// open files, not paths, which in a user's directory may lead elsewhere meanwhile.
type watcher struct {
	file  *os.File
	conn  syscall.RawConn
	ended chan struct{}

	mu    sync.Mutex
	files map[int32]func() // by watch descriptor
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify") //nolint:gosec // a descriptor
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w := &watcher{file: f, conn: conn, ended: make(chan struct{}), files: make(map[int32]func())}
	go w.run()
	return w, nil
}

// errWatched says that a file is watched already.
var errWatched = errors.New("the file is followed for another task already")

// add has modified called, from the watcher's goroutine, after every write to f. It returns
// what remove takes.
func (w *watcher) add(f *os.File, modified func()) (int32, error) {
	file, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var id int
	outer := file.Control(func(fd uintptr) {
		path := "/proc/self/fd/" + strconv.FormatUint(uint64(fd), 10)
		err = w.control(func(inotify int) error {
			id, err = unix.InotifyAddWatch(inotify, path, unix.IN_MODIFY|unix.IN_MASK_CREATE)
			return err
		})
	})
	switch err := errors.Join(outer, err); {
	case errors.Is(err, unix.EEXIST):
		return 0, errWatched
	case err != nil:
		return 0, fmt.Errorf("inotify: %w", err)
	}
	w.files[int32(id)] = modified //nolint:gosec // the kernel's are int32
	return int32(id), nil         //nolint:gosec // the same
}

// remove ends a watch; its function is not called afterwards.
func (w *watcher) remove(id int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, id)
	// Fails when the file is gone, and its watch with it.
	_ = w.control(func(inotify int) error {
		_, err := unix.InotifyRmWatch(inotify, uint32(id)) //nolint:gosec // came from add
		return err
	})
}

func (w *watcher) close() error {
	err := w.file.Close()
	<-w.ended
	return err
}

func (w *watcher) control(f func(inotify int) error) (err error) {
	outer := w.conn.Control(func(fd uintptr) { err = f(int(fd)) }) //nolint:gosec // a descriptor
	return errors.Join(outer, err)
}

func (w *watcher) run() {
	defer close(w.ended)
	var buf [4096]byte
	for {
		n, err := w.file.Read(buf[:])
		if err != nil {
			return // closed
		}
		w.dispatch(buf[:n])
	}
}

// dispatch calls the functions of the files that the events name (struct inotify_event: wd, mask, cookie,
// len, name; watches of files have no name).
func (w *watcher) dispatch(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(events)) //nolint:gosec // is an int32 there
		mask := binary.NativeEndian.Uint32(events[4:])
		name := binary.NativeEndian.Uint32(events[12:])
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, modified := range w.files {
				modified()
			}
		} else if modified := w.files[id]; modified != nil {
			modified()
		}
		events = events[min(unix.SizeofInotifyEvent+int(name), len(events)):]
	}
}
