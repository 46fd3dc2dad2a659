package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
)

// logFile is a k8s-file log as a follower's source.
type logFile struct {
	*follower
	file     *os.File
	watch    int32
	limit    int64 // how far the file may grow ahead of the readers, bytes
	trimming trimming
	punched  int64
}

func (l *logFile) open(context.Context) error {
	if err := l.pos.settle(l.file); err != nil {
		return err
	}
	l.punched = max(0, l.pos.Done.Offset&^(punchStep-1)-punchStep)
	behind, err := l.behind(l.pos.Read.Offset)
	if err != nil {
		return err
	}
	// What had gathered before is not dropped only because it is much: the limit is for what comes.
	l.limit = l.maxBacklog + behind
	l.watch, err = l.watcher.add(l.file, l.modified)
	return err
}

func (l *logFile) close() { l.watcher.remove(l.watch) }

// modified is called after every write to the file. It must not wait for the file, which is the user's.
func (l *logFile) modified() {
	l.awake()
	if l.stalled.Load() {
		l.interrupt() // the backlog may have passed its limit
	}
}

// carry delivers the next chunk of the file. It returns false at its end.
func (l *logFile) carry(ctx context.Context, last bool) (more bool, err error) {
	n, err := l.file.ReadAt(l.bufs.in[:], l.pos.Read.Offset)
	if err != nil && err != io.EOF {
		return false, err
	}
	if n == 0 {
		l.limit = l.maxBacklog
		return l.truncated()
	}
	src := l.bufs.in[:n]
	if end := bytes.LastIndexByte(src, '\n'); end >= 0 {
		src = src[:end+1] // whole lines, so that what a kill makes repeat are whole lines
	}
	out := l.notice()
	used, state := l.pos.Read.State.split(&out, src)
	if used == 0 {
		if !last {
			return false, nil // within a line's header
		}
		out[stdout] = append(out[stdout], src...)
		used = len(src)
	}
	skipped, err := l.deliver(ctx, &out)
	if err != nil || skipped {
		return true, err
	}
	l.pos.Gap = false
	if err := l.advance(&out, mark{Offset: l.pos.Read.Offset + int64(used), State: state}); err != nil {
		return false, err
	}
	l.trim(n < chunk)
	return true, nil
}

// truncated starts over when someone has truncated the file; conmon never does.
func (l *logFile) truncated() (bool, error) {
	behind, err := l.behind(l.pos.Read.Offset)
	if err != nil || behind >= 0 {
		return false, err
	}
	l.logger.Warn("the log file was truncated by somebody; starting over", "task", l.req.Task, "file", l.req.File)
	l.restartAt(0)
	return true, nil
}

// behind returns how many bytes of the file lie behind an offset.
func (l *logFile) behind(offset int64) (int64, error) {
	_, size, err := identify(l.file)
	return size - offset, err
}

func (l *logFile) backlog() (int64, error) {
	behind, err := l.behind(l.offset.Load())
	return max(0, behind), err
}

func (l *logFile) lost() (string, error) {
	behind, err := l.behind(l.pos.Done.Offset)
	return fmt.Sprintf("the last %d bytes of its log are lost", behind), err
}

// skip drops the older part of what nobody has read, when that is too much.
func (l *logFile) skip() (bool, error) {
	behind, err := l.behind(l.pos.Read.Offset)
	if err != nil || behind <= l.limit {
		return false, err
	}
	// To the middle, so that it is not done for every line; from there to the next line's start.
	to := l.pos.Read.Offset + behind - l.limit/2
	n, err := l.file.ReadAt(l.bufs.in[:], to)
	if err != nil && err != io.EOF {
		return false, err
	}
	to += int64(bytes.IndexByte(l.bufs.in[:n], '\n') + 1)
	dropped := to - l.pos.Read.Offset
	l.pos.Dropped += dropped
	l.restartAt(to)
	l.pos.Gap = true
	for s, w := range l.fifos {
		l.pos.MidLine[s] = w.midLine
	}
	l.logger.Warn("dropped the oldest lines of a log that nobody reads", "task", l.req.Task, "bytes", dropped)
	l.checkpoint()
	l.trim(true)
	l.onDrop()
	return true, nil
}

// notice returns the follower's output buffers, empty but for the line that tells of a gap before
// the text that comes next.
func (l *logFile) notice() (out output) {
	for s := range out {
		out[s] = l.bufs.out[s][:0]
		if !l.pos.Gap {
			continue
		}
		if l.pos.MidLine[s] {
			out[s] = append(out[s], '\n')
		}
		out[s] = fmt.Appendf(out[s], "[nomad-driver-podman: output was dropped here because nobody read it; %d bytes so far]\n", l.pos.Dropped)
	}
	return out
}

// restartAt goes on reading at a line's start elsewhere in the file.
func (l *logFile) restartAt(offset int64) {
	l.pos.Read = mark{Offset: offset}
	l.pos.Done = l.pos.Read
	l.pos.Sent = [streams]uint32{}
	l.marks = l.marks[:0]
	l.pass()
}

// shift follows the removal of n bytes from the file's start.
func (l *logFile) shift(n int64) {
	l.pos.shift(n)
	for i := range l.marks {
		l.marks[i].Offset -= n
	}
}
