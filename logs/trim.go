package logs

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// trimming is how delivered text is dropped from a log file. conmon appends to it all the time, so it is never truncated.
type trimming int

const (
	collapse trimming = iota // the file's start is removed: ext4, XFS
	punch                    // it becomes a hole
	keep                     // the filesystem can do neither
)

const (
	// collapseStep is how much is collapsed at least, and what it is a multiple of; fallocate(2)
	// wants it to be one of the filesystem's blocks.
	collapseStep = 1 << 20
	// collapseAhead is how much may gather while the reader is behind: collapsing costs the
	// page cache of all that follows.
	collapseAhead = 16 << 20
	// punchStep is the same for holes.
	punchStep = 4 << 20
	// maxLine is more than conmon's longest line: it splits them at 8 KiB.
	maxLine = 16 << 10
)

// trim drops what logmon has read from the file. atEnd says that there was no more to read.
func (l *logFile) trim(atEnd bool) {
	var err error
	switch l.trimming {
	case collapse:
		if atEnd || l.pos.Done.Offset >= collapseAhead {
			err = l.collapse()
		}
	case punch:
		err = l.punch()
	case keep:
	}
	if err != nil {
		l.logger.Info("cannot drop delivered text from the log file this way", "file", l.req.File, "way", l.trimming, "error", err)
		l.trimming++
	}
}

func (t trimming) String() string { return [...]string{"collapse", "punch hole", "none"}[t] }

// collapse removes the start of the file, saving before what tells afterwards whether it happened.
func (l *logFile) collapse() error {
	// The last bytes that were read stay, to end in a whole line for startLine.
	n := (l.pos.Done.Offset - maxLine) &^ (collapseStep - 1)
	if n <= 0 {
		return nil
	}
	if err := l.startLine(n); err != nil {
		return err
	}
	l.pos.Window = min(maxLine, l.pos.Done.Offset-n)
	before, err := hashAt(l.file, 0, l.pos.Window)
	if err != nil {
		return err
	}
	if l.pos.Behind, err = hashAt(l.file, n, l.pos.Window); err != nil {
		return err
	}
	if before == l.pos.Behind {
		return nil // could not be told apart; another n will do
	}
	l.pos.Cut = n
	err = l.save()
	if err == nil {
		err = fallocate(l.file, unix.FALLOC_FL_COLLAPSE_RANGE, 0, n)
	}
	if err == nil {
		l.shift(n)
	}
	l.pos.Cut = 0
	l.checkpoint()
	return err
}

// startLine makes a line start at n, which all of logmon's readers are past: podman logs --tail fails
// on a file that starts within one.
func (l *logFile) startLine(n int64) error {
	line := fmt.Appendf(nil, "%s stdout F (earlier output went to Nomad)", time.Now().Format("2006-01-02T15:04:05.000000000-07:00"))
	old := make([]byte, maxLine)
	if _, err := l.file.ReadAt(old, n); err != nil {
		return err
	}
	end := bytes.IndexByte(old[len(line):], '\n')
	if end < 0 {
		return nil // not written by conmon
	}
	line = append(line, bytes.Repeat([]byte{' '}, end)...)
	_, err := l.file.WriteAt(append(line, '\n'), n)
	return err
}

// punch makes a hole of what was read since the last one.
func (l *logFile) punch() error {
	to := l.pos.Done.Offset &^ (punchStep - 1)
	if to <= l.punched {
		return nil
	}
	if err := fallocate(l.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, l.punched, to-l.punched); err != nil {
		return err
	}
	l.punched = to
	// podman logs reads the hole as NULs: a newline now and then keeps it from taking it all for one line.
	_, err := l.file.WriteAt([]byte{'\n'}, to-1)
	return err
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	return control(f, func(fd int) error {
		_, err := ignoreEINTR(func() (int, error) { return 0, unix.Fallocate(fd, mode, off, n) })
		return err
	})
}
