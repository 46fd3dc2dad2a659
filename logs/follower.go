package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// chunk is how much of a log file is split at a time: as much as a FIFO holds (pipe(7)).
const chunk = 64 << 10

// buffers are what a follower needs while it has something to do. They are shared by all: an idle task holds none.
type buffers struct {
	in  [chunk]byte
	out [streams][chunk]byte
}

var pool = sync.Pool{New: func() any { return new(buffers) }}

// followerConfig is what a follower carries: a container's log to two open FIFOs.
type followerConfig struct {
	req        FollowRequest
	log        *os.File // nil: the log is in the journal
	fifos      [streams]*fifo
	offsets    *os.File // where the position is saved
	resumed    bool     // the FIFOs hold what they held when the position was saved
	maxBacklog int64    // how far a log file may grow ahead of the readers, bytes
	watcher    *watcher
	journalctl journalctl
	onDrop     func() // lines were dropped; must not wait
	logger     hclog.Logger
}

// follower carries one task's log. Its goroutine sleeps until the log has more, a FIFO
// has room again, or it is told to finish or to stop.
type follower struct {
	followerConfig
	source  source
	pos     position
	marks   []passed // since pos.Done, oldest first
	bufs    *buffers
	unsaved bool  // the last checkpoint failed
	doubt   error // why the source may not have shown the log's end
	errTail tail  // of stderr, as this process has delivered it; read once done

	wake      chan struct{}
	finishing chan struct{}
	finished  sync.Once // closes finishing
	stop      context.CancelCauseFunc
	done      chan struct{}
	err       error // once done

	// For other goroutines:
	offset  atomic.Int64 // pos.Read.Offset when it was last saved
	dropped atomic.Int64 // pos.Dropped, the same
	told    atomic.Int64 // how much of that the driver knows
	stalled atomic.Bool  // a FIFO is full
}

// source is where a follower's text comes from: a log file or the journal. Its methods are the follower's goroutine's,
// but for backlog.
type source interface {
	// open begins to watch the log, from the follower's position on.
	open(ctx context.Context) error
	// carry delivers the next text. It returns false when there is none; last says that the container has ended, so
	// that what is there is all.
	carry(ctx context.Context, last bool) (more bool, err error)
	// skip is asked while nobody makes room in a FIFO. It returns true when it has given up the text that waits.
	skip() (bool, error)
	// backlog is how many bytes of the log nobody has taken, as far as that is known.
	backlog() (int64, error)
	// lost says what the readers have not got, when the follower has ended early.
	lost() (string, error)
	close()
}

// passed is a mark that has been passed, and how much each FIFO had been written by then. It is
// done with when the readers have taken as much.
type passed struct {
	mark
	written [streams]int64
}

// maxMarks bounds the marks that wait for a slow reader.
const maxMarks = 64

// errGivenUp is why a follower ends before it has delivered everything.
var errGivenUp = errors.New("its FIFOs were not read in time")

// follow starts a follower. It ends when ctx does, or when it is finished; its files are then the caller's to close.
func follow(ctx context.Context, c followerConfig) (*follower, error) {
	f := &follower{
		followerConfig: c,
		wake:           make(chan struct{}, 1),
		finishing:      make(chan struct{}),
		done:           make(chan struct{}),
	}
	f.source = &journalLog{follower: f}
	if c.log != nil {
		f.source = &logFile{follower: f, file: c.log}
	}
	var err error
	if f.pos, err = loadPosition(c.offsets); err != nil && !errors.Is(err, errNoPosition) {
		return nil, err
	}
	f.told.Store(f.pos.Told)
	if !c.resumed {
		f.pos.Read, f.pos.Sent = f.pos.Done, [streams]uint32{}
	}
	if err := f.source.open(ctx); err != nil {
		return nil, err
	}
	f.marks = []passed{{mark: f.pos.Done}, {mark: f.pos.Read}}
	for s, w := range f.fifos {
		f.marks[1].written[s] = w.written - int64(f.pos.Sent[s])
	}
	if err := f.save(); err != nil {
		f.source.close()
		return nil, err
	}
	ctx, f.stop = context.WithCancelCause(ctx)
	go func() {
		defer close(f.done)
		defer f.source.close()
		defer f.stop(nil)
		defer context.AfterFunc(ctx, f.interrupt)()
		f.err = errors.Join(f.run(ctx), f.doubt, f.account())
		f.checkpoint()
		f.release()
	}()
	return f, nil
}

// awake has the follower look for more. It never waits.
func (f *follower) awake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// interrupt makes the follower look up from a full FIFO.
func (f *follower) interrupt() {
	for _, w := range f.fifos {
		w.interrupt()
	}
}

// run carries the log until it is told to finish and has, or ctx ends.
func (f *follower) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// Asked before reading: the end of file that is found afterwards is then the last one.
		last := false
		select {
		case <-f.finishing:
			last = true
		default:
		}
		if f.bufs == nil {
			f.bufs = pool.Get().(*buffers) //nolint:errcheck // holds nothing else
		}
		more, err := f.source.carry(ctx, last)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		f.release()
		if last {
			return f.drain(ctx)
		}
		select {
		case <-f.wake:
		case <-f.finishing:
		case <-ctx.Done():
		}
	}
}

// deliver writes what out holds, less what was sent before, to the FIFOs, and waits for room in them.
// It returns true when the source has given that up, because nobody reads.
func (f *follower) deliver(ctx context.Context, out *output) (skipped bool, err error) {
	for s, w := range f.fifos {
		for int(f.pos.Sent[s]) < len(out[s]) {
			rest := out[s][f.pos.Sent[s]:]
			n, err := w.tryWrite(rest)
			if n == 0 && err == nil {
				n, skipped, err = f.await(ctx, w, rest)
			}
			if err != nil || skipped {
				return skipped, err
			}
			f.pos.Sent[s] += uint32(n) //nolint:gosec // at most a chunk
		}
	}
	return false, nil
}

// await writes to a FIFO that was full, once it no longer is.
func (f *follower) await(ctx context.Context, w *fifo, p []byte) (n int, skipped bool, err error) {
	f.checkpoint()
	f.stalled.Store(true)
	defer f.stalled.Store(false)
	for {
		// An interrupt that comes after resume ends waitWrite; what one before it was for is looked at here.
		w.resume()
		if ctx.Err() != nil {
			return 0, false, context.Cause(ctx)
		}
		if n, err := w.tryWrite(p); n > 0 || err != nil {
			return n, false, err
		}
		if skipped, err := f.source.skip(); skipped || err != nil {
			return 0, skipped, err
		}
		n, err := w.waitWrite(p)
		if n > 0 || err != nil {
			return n, false, err
		}
	}
}

// advance notes that out has been delivered, and where in the log it ended.
func (f *follower) advance(out *output, to mark) error {
	f.pos.Read = to
	f.errTail.add(out[stderr])
	for s := range f.pos.Sent {
		// More than out has was sent when a process before this one delivered more at a time.
		f.pos.Sent[s] -= min(f.pos.Sent[s], uint32(len(out[s]))) //nolint:gosec // at most a chunk
	}
	f.pass()
	if err := f.account(); err != nil {
		return err
	}
	f.checkpoint()
	return nil
}

// pass notes that all text before pos.Read has been written.
func (f *follower) pass() {
	p := passed{mark: f.pos.Read}
	for s, w := range f.fifos {
		p.written[s] = w.written
	}
	f.marks = append(f.marks, p)
	if len(f.marks) > maxMarks {
		// Every other one is enough: they only say how much can be dropped from the file.
		kept := f.marks[:0]
		for i, m := range f.marks {
			if i%2 == 0 {
				kept = append(kept, m)
			}
		}
		f.marks = kept
	}
}

// account finds out how far the readers are.
func (f *follower) account() error {
	var taken [streams]int64
	for s, w := range f.fifos {
		unread, err := w.unread()
		if err != nil {
			return err
		}
		taken[s] = w.written - unread
	}
	n := 0
	for _, m := range f.marks {
		if m.written[stdout] > taken[stdout] || m.written[stderr] > taken[stderr] {
			break
		}
		f.pos.Done = m.mark
		n++
	}
	f.marks = append(f.marks[:0], f.marks[n:]...)
	return nil
}

// save puts the position where a successor finds it.
func (f *follower) save() error {
	f.offset.Store(f.pos.Read.Offset)
	f.dropped.Store(f.pos.Dropped)
	f.pos.Told = f.told.Load()
	return f.pos.saveTo(f.offsets)
}

// checkpoint saves the position. When that fails, delivering goes on: only a successor would repeat lines.
func (f *follower) checkpoint() {
	err := f.save()
	if err != nil && !f.unsaved {
		f.logger.Error("cannot save how far a task's log was delivered", "task", f.req.Task, "error", err)
	}
	f.unsaved = err != nil
}

// drain waits until the readers have taken everything: what lies in a FIFO when nobody has it open any more is lost.
func (f *follower) drain(ctx context.Context) error {
	// The kernel does not tell when a pipe becomes empty, so this looks, at the end of a task only.
	for delay := time.Millisecond; ; delay = min(2*delay, 50*time.Millisecond) {
		unread, err := f.unread()
		if unread == 0 || err != nil {
			return err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unread returns how many bytes lie in the FIFOs.
func (f *follower) unread() (int64, error) {
	out, err1 := f.fifos[stdout].unread()
	err, err2 := f.fifos[stderr].unread()
	return out + err, errors.Join(err1, err2)
}

func (f *follower) release() {
	if f.bufs != nil {
		pool.Put(f.bufs)
		f.bufs = nil
	}
}

// maxTail bounds what is kept of the end of a stream, bytes.
const maxTail = 2 << 10

// tail is the end of a text.
type tail []byte

func (t *tail) add(text []byte) {
	text = text[max(0, len(text)-maxTail):]
	*t = append((*t)[max(0, len(*t)+len(text)-maxTail):], text...)
}

// lines is the tail without the rest of a line whose beginning is gone.
func (t tail) lines() []byte {
	if _, rest, found := bytes.Cut(t, []byte("\n")); found && len(t) == maxTail && len(rest) > 0 {
		return rest
	}
	return t
}

// finish delivers what is left and ends the follower. When ctx ends earlier, it gives up, and the error says what is lost.
func (f *follower) finish(ctx context.Context) error {
	f.finished.Do(func() { close(f.finishing) })
	select {
	case <-f.done:
	case <-ctx.Done():
		f.stop(errGivenUp)
		<-f.done
	}
	var untold error
	if f.pos.Dropped > f.told.Load() {
		untold = fmt.Errorf("task %s: %d bytes of its log were dropped because nobody read it in time", f.req.Task, f.pos.Dropped)
	}
	if f.err == nil {
		return untold
	}
	lost, err := f.source.lost()
	return errors.Join(untold, fmt.Errorf("task %s: %s: %w", f.req.Task, lost, f.err), err)
}

// status adds to st how the follower is doing; it may be called from any goroutine.
func (f *follower) status(st *TaskStatus) error {
	backlog, err := f.source.backlog()
	st.Backlog = backlog
	st.Dropped = f.dropped.Load()
	unread, err2 := f.unread()
	st.Unread = unread
	select {
	case <-f.done:
		return errors.Join(f.err, err, err2)
	default:
		return errors.Join(err, err2)
	}
}
