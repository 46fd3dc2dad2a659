//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// racerEnv is set for the test's binary when it is to be the racer: to the shared directory of an allocation, as a task of the
// host user's sees it.
const racerEnv = "E2E_RACER"

// racerDir is where the racer says what it has done; its user's.
const racerDir = "/run/user/2001/racer"

// prize is what root would write, change or give away if it followed the racer's links.
const prize = "/etc/e2e-prize"

// raced is what the racer has seen and done.
type raced struct {
	Events  int             // how often somebody has changed the directories
	Windows []time.Duration // how long alloc or its logs stood open
	Renamed int             // how often it could rename the logs
	Linked  int             // how often it could put links among them
	Swapped int             // how often it could put a link in the place of alloc/data
}

// race waits until somebody opens the directory or the logs in it to all, and then does there what it can. It ends when it is
// killed.
func race(shared string) error {
	dir, err := unix.Open(shared, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := os.Mkdir(racerDir, 0o700); err != nil {
		return err
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	for _, path := range []string{"", "/logs"} {
		if _, err := unix.InotifyAddWatch(watch, "/proc/self/fd/"+strconv.Itoa(dir)+path, unix.IN_ATTRIB); err != nil {
			return err
		}
	}
	r := racer{dir: dir}
	for {
		if err := r.record(); err != nil {
			return err
		}
		var events [4096]byte
		if _, err := unix.Read(watch, events[:]); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		r.Events++
		r.use(time.Now())
	}
}

type racer struct {
	dir int // the shared directory
	raced
}

// use makes the most of a window that begins.
func (r *racer) use(began time.Time) {
	const patience = 20 * time.Millisecond
	for closed := time.Now(); time.Since(closed) < patience; {
		if !r.open() {
			continue
		}
		r.attack()
		for r.open() {
			r.attack()
		}
		closed = time.Now()
		r.Windows = append(r.Windows, closed.Sub(began))
	}
}

// open tells whether one of the directories is everybody's to change.
func (r *racer) open() bool {
	var shared, logs unix.Stat_t
	return unix.Fstat(r.dir, &shared) == nil && (shared.Mode&unix.S_ISVTX == 0 || shared.Uid != 0) ||
		unix.Fstatat(r.dir, "logs", &logs, 0) == nil && (logs.Mode&0o002 != 0 || logs.Uid != 0)
}

// attack puts links where root may go next. What it has moved away it puts back, so that nobody misses it.
func (r *racer) attack() {
	if unix.Renameat(r.dir, "logs", r.dir, "was") == nil {
		r.Renamed++
		_ = unix.Mkdirat(r.dir, "logs", 0o777)
		r.link()
		for began := time.Now(); r.open() && time.Since(began) < time.Millisecond; {
		}
		r.unlink()
		_ = unix.Unlinkat(r.dir, "logs", unix.AT_REMOVEDIR)
		_ = unix.Renameat(r.dir, "was", r.dir, "logs")
	}
	if unix.Renameat(r.dir, "data", r.dir, "kept") == nil {
		if unix.Symlinkat(prize, r.dir, "data") == nil {
			r.Swapped++
			_ = unix.Unlinkat(r.dir, "data", 0)
		}
		_ = unix.Renameat(r.dir, "kept", r.dir, "data")
	}
}

// nextFiles is how many of the log files that are there or come next the racer replaces.
const nextFiles = 16

func (r *racer) link() {
	for name := range logFiles {
		if unix.Symlinkat(prize, r.dir, name) == nil {
			r.Linked++
		}
	}
}

func (r *racer) unlink() {
	for name := range logFiles {
		_ = unix.Unlinkat(r.dir, name, 0)
	}
}

// logFiles are the names of log files of the job's tasks.
func logFiles(yield func(string) bool) {
	for i := range nextFiles {
		for _, task := range []string{"racer", "waiting"} {
			if !yield(fmt.Sprintf("logs/%s.stdout.%d", task, i)) {
				return
			}
		}
	}
}

func (r *racer) record() error {
	text, err := json.Marshal(r.raced)
	if err != nil {
		return err
	}
	path := filepath.Join(racerDir, "raced")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
