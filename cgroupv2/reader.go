package cgroupv2

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

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
	forks   *os.File               // pids.events, nil without the pids controller
	dir     *os.File               // the cgroup's directory, for what only a Look reads
	looks   looks
	now     Stats          // Idle's
	closed  bool           // written with both locks held
	buf     [16 << 10]byte // memory.stat, the longest, takes about 2 KiB

	// oomMu is for OOMKills, which must not wait for a Look. It is taken after mu.
	oomMu  sync.Mutex
	events *os.File // memory.events, nil without the memory controller
	parent *os.File // the parent's
	seen   oomSeen
	oomBuf [512]byte // seven short lines
}

// Open returns a reader of a cgroup, whose path must be absolute and clean and may otherwise
// be anything. What the cgroup measures is settled now. The error is ErrGone when it does not
// exist.
func (h Hierarchy) Open(path string) (*Reader, error) {
	dir, err := h.openDir(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, dir: os.NewFile(uintptr(dir), path)}
	if err := r.open(dir); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if parent, err := h.openDir(filepath.Dir(path)); err == nil {
		defer closeDir(parent)
		if r.parent, err = r.openOptional(parent, "memory.events"); err != nil {
			return nil, errors.Join(err, r.Close())
		}
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
	if r.events, err = r.openOptional(dir, "memory.events"); err != nil {
		return err
	}
	r.forks, err = r.openOptional(dir, "pids.events")
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
	return r.read(s, r.sources[:])
}

// Idle tells whether the cgroup has used no processor time since a sample, and has as much memory as then: a new sample would
// say about the same. It costs a fraction of one. The error is ErrGone when the cgroup was removed.
func (r *Reader) Idle(since *Stats) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.read(&r.now, r.sources[:changing]); err != nil {
		return false, err
	}
	return r.now.CPUTotal == since.CPUTotal && r.now.Memory == since.Memory, nil
}

// read reads the first of the sources, or all.
func (r *Reader) read(s *Stats, files []*os.File) error {
	*s = Stats{}
	if r.closed {
		return cgroupError(r.path, os.ErrClosed)
	}
	for i, file := range files {
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
// killed (memory.events oom_kill). The error is ErrNotMeasured without the memory controller.
//
// A cgroup is removed as soon as its last process has ended, mostly before anybody could look.
// Then the error is ErrGone, and the number is that of the last call, and one more when the
// parent has counted a kill since, and this cgroup was short of memory: Changed was told so since
// that call, or that call was a moment ago and saw that the cgroup had been at its limit. Another
// cgroup's kill counts here only when this one was ended by somebody else within a moment of
// coming to its limit.
//
// It is quick, whatever the cgroup's owner does in it, and waits for no other method.
func (r *Reader) OOMKills() (uint64, error) {
	r.oomMu.Lock()
	defer r.oomMu.Unlock()
	if r.closed {
		return r.seen.kills, cgroupError(r.path, os.ErrClosed)
	}
	if r.events == nil {
		return 0, fmt.Errorf("memory.events of cgroup %s: %w", r.path, ErrNotMeasured)
	}
	// The parent's first: a kill in between must not be missing in both.
	now := oomSeen{at: time.Now()}
	_, now.above, _ = r.memoryEvents(r.parent) // where it has none, only the own count counts
	var err error
	if now.max, now.kills, err = r.memoryEvents(r.events); err == nil {
		r.seen = now
		return now.kills, nil
	}
	if r.seen.changed || r.seen.max > 0 && now.at.Sub(r.seen.at) < aMoment {
		// By now the parent has counted all that happened here. What it counts later happens elsewhere.
		_, now.above, _ = r.memoryEvents(r.parent)
		if now.above > r.seen.above {
			r.seen.kills++
		}
		r.seen = oomSeen{kills: r.seen.kills, above: now.above}
	}
	return r.seen.kills, cgroupError(r.path, fmt.Errorf("%s: %w", r.events.Name(), err))
}

// oomSeen is what memory.events of a cgroup and its parent have said.
type oomSeen struct {
	at         time.Time
	kills, max uint64 // of the cgroup: OOM kills, and how often it was at its limit
	above      uint64 // OOM kills below the parent
	changed    bool   // that of the cgroup has changed since
}

// aMoment is how late, on a slow host, the call may be that the end of a cgroup asks for.
const aMoment = 10 * time.Second

// Changed notes that the kernel has reported a change of one of Events, which may be gone when its reader gets to know. Each
// kill changes memory.events. A change is not reported when it comes within about 10 ms of the one before, and the cgroup goes
// as soon (CGROUP_FILE_NOTIFY_MIN_INTV of the kernel's kernel/cgroup/cgroup.c).
func (r *Reader) Changed(file *os.File) {
	r.oomMu.Lock()
	defer r.oomMu.Unlock()
	if file == r.events {
		r.seen.changed = true
	}
}

// memoryEvents reads how often a cgroup was at its limit, and how many of its processes were OOM killed.
func (r *Reader) memoryEvents(file *os.File) (max, kills uint64, err error) {
	text, err := readText(int(file.Fd()), r.oomBuf[:]) // #nosec G115 -- a descriptor is an int
	if err != nil {
		return 0, 0, err
	}
	err = flatKeyed(text, func(key []byte, value uint64) {
		switch string(key) {
		case "max":
			max = value
		case "oom_kill":
			kills = value
		}
	})
	return max, kills, err
}

// Events are memory.events and pids.events, which report a change (EPOLLPRI), at most every 10 ms each, when the cgroup was
// at one of those limits: OOMKills may have risen, and it is time for a Look. Without a controller its file is missing.
func (r *Reader) Events() []*os.File {
	var events []*os.File
	for _, file := range []*os.File{r.events, r.forks} {
		if file != nil {
			events = append(events, file)
		}
	}
	return events
}

// text reads a file from its beginning into the buffer, which it shares with the next call.
func (r *Reader) text(file *os.File) ([]byte, error) {
	return readText(int(file.Fd()), r.buf[:]) // #nosec G115 -- a descriptor is an int
}

// readText reads a file from its beginning.
// One pread is enough: the kernel makes the whole text of such a file at once, and os.File's
// ReadAt would have it made a second time to see its end.
func readText(fd int, into []byte) ([]byte, error) {
	n, err := unix.Pread(fd, into, 0)
	if err != nil {
		return nil, err
	}
	return into[:n], nil
}

// Close closes the files. It may be called more than once.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.oomMu.Lock()
	defer r.oomMu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	var errs []error
	for _, file := range append(r.sources[:], r.events, r.parent, r.forks, r.dir) {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
