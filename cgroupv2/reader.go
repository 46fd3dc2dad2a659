package cgroupv2

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotMeasured says that a cgroup lacks the file that would answer, because its controller
// was not delegated.
var ErrNotMeasured = errors.New("not measured here")

// Reader samples one cgroup. It may be used by several goroutines.
//
// Every running task is sampled about once a second. So the files stay open, and a sample is
// one pread(2) of each into the same buffer. The Stat of containerd's cgroup2.Manager, which
// opens all files of a cgroup anew and collects all they say, takes seventeen times as long and
// makes 241 allocations (BenchmarkContainerd).
type Reader struct {
	path string

	mu      sync.Mutex
	sources [len(sources)]*os.File // nil: not measured here
	events  *os.File               // memory.events, nil without the memory controller
	closed  bool
	buf     [16 << 10]byte // memory.stat, the longest, takes about 2 KiB
}

// Open returns a reader of a cgroup, whose path must be absolute and clean and may otherwise
// be anything. What the cgroup measures is settled now. The error is ErrGone when it does not
// exist.
func (h Hierarchy) Open(path string) (*Reader, error) {
	dir, err := h.openDir(path)
	if err != nil {
		return nil, err
	}
	defer closeDir(dir)
	r := &Reader{path: path}
	if err := r.open(dir); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reader) open(dir int) (err error) {
	for i, source := range sources {
		if r.sources[i], err = r.openOptional(dir, source.file); err != nil {
			return err
		}
	}
	if r.sources[0] == nil { // cpu.stat
		return fmt.Errorf("cgroup %s: %w", r.path, ErrGone)
	}
	r.events, err = r.openOptional(dir, "memory.events")
	return err
}

func (r *Reader) openOptional(dir int, name string) (*os.File, error) {
	file, err := openIn(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cgroupError(r.path, err)
	}
	return file, nil
}

// Read replaces s by a new sample. The error is ErrGone when the cgroup was removed.
func (r *Reader) Read(s *Stats) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*s = Stats{}
	if r.closed {
		return cgroupError(r.path, os.ErrClosed)
	}
	for i, file := range r.sources {
		if file == nil {
			continue
		}
		text, err := r.text(file)
		if err == nil {
			err = sources[i].parse(text, s)
		}
		if err != nil {
			return cgroupError(r.path, fmt.Errorf("%s: %w", file.Name(), err))
		}
	}
	return nil
}

// OOMKills returns how many processes of the cgroup and its descendants the OOM killer has
// killed (memory.events oom_kill). The error is ErrNotMeasured without the memory controller,
// and ErrGone when the cgroup was removed.
func (r *Reader) OOMKills() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, cgroupError(r.path, os.ErrClosed)
	}
	if r.events == nil {
		return 0, fmt.Errorf("memory.events of cgroup %s: %w", r.path, ErrNotMeasured)
	}
	var kills uint64
	text, err := r.text(r.events)
	if err == nil {
		err = flatKeyed(text, func(key []byte, value uint64) {
			if string(key) == "oom_kill" {
				kills = value
			}
		})
	}
	if err != nil {
		return 0, cgroupError(r.path, fmt.Errorf("%s: %w", r.events.Name(), err))
	}
	return kills, nil
}

// text reads a file from its beginning into the buffer, which it shares with the next call.
// One pread is enough: the kernel makes the whole text of such a file at once, and os.File's
// ReadAt would have it made a second time to see its end.
func (r *Reader) text(file *os.File) ([]byte, error) {
	n, err := unix.Pread(int(file.Fd()), r.buf[:], 0) // #nosec G115 -- a descriptor is an int
	if err != nil {
		return nil, err
	}
	return r.buf[:n], nil
}

// Close closes the files. It may be called more than once.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	var errs []error
	for _, file := range append(r.sources[:], r.events) {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
