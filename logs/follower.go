package logs

import (
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

// followerConfig is what a follower carries: an open log file to two open FIFOs.
type followerConfig struct {
	req     FollowRequest
	log     *os.File
	fifos   [streams]*fifo
	offsets *os.File // where the position is saved
	resumed bool     // the FIFOs hold what they held when the position was saved
	backlog int64    // how far the file may grow ahead of the readers, bytes
	watch   *watcher
	logger  hclog.Logger
}

// follower carries one task's log. Its goroutine sleeps until the file grows, a FIFO
// has room again, or it is told to finish or to stop.
type follower struct {
	followerConfig
	pos      position
	marks    []passed // since pos.Done, oldest first
	limit    int64
	trimming trimming
	punched  int64
	bufs     *buffers
	unsaved  bool // the last checkpoint failed

	wake      chan struct{}
	finishing chan struct{}
	finished  sync.Once // closes finishing
	stop      context.CancelCauseFunc
	done      chan struct{}
	err       error // once done

	// For other goroutines:
	offset  atomic.Int64 // pos.Read.Offset when it was last saved
	dropped atomic.Int64 // pos.Dropped, the same
	stalled atomic.Bool  // a FIFO is full
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
	var err error
	if f.pos, err = loadPosition(c.offsets); err != nil && !errors.Is(err, errNoPosition) {
		return nil, err
	}
	if err := f.pos.settle(c.log); err != nil {
		return nil, err
	}
	if !c.resumed {
		f.pos.Read, f.pos.Sent = f.pos.Done, [streams]uint32{}
	}
	f.marks = []passed{{mark: f.pos.Done}, {mark: f.pos.Read}}
	for s, w := range f.fifos {
		f.marks[1].written[s] = w.written - int64(f.pos.Sent[s])
	}
	f.punched = max(0, f.pos.Done.Offset&^(punchStep-1)-punchStep)
	behind, err := f.behind()
	if err != nil {
		return nil, err
	}
	// What had gathered before is not dropped only because it is much: the limit is for what comes.
	f.limit = c.backlog + behind
	if err := f.save(); err != nil {
		return nil, err
	}
	watch, err := c.watch.add(c.log, f.modified)
	if err != nil {
		return nil, err
	}
	ctx, f.stop = context.WithCancelCause(ctx)
	go func() {
		defer close(f.done)
		defer c.watch.remove(watch)
		defer f.stop(nil)
		defer context.AfterFunc(ctx, f.interrupt)()
		f.err = errors.Join(f.run(ctx), f.account())
		f.checkpoint()
		f.release()
	}()
	return f, nil
}

// modified is called after every write to the file. It must not wait for the file, which is the user's.
func (f *follower) modified() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
	if f.stalled.Load() {
		f.interrupt() // the backlog may have passed its limit
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
		more, err := f.carry(ctx, last)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		f.release()
		f.limit = f.backlog
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

// shift follows the removal of n bytes from the file's start.
func (f *follower) shift(n int64) {
	f.pos.shift(n)
	for i := range f.marks {
		f.marks[i].Offset -= n
	}
}

// save puts the position where a successor finds it.
func (f *follower) save() error {
	f.offset.Store(f.pos.Read.Offset)
	f.dropped.Store(f.pos.Dropped)
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

// finish delivers what is left and ends the follower. When ctx ends earlier, it gives up, and the error says what is lost.
func (f *follower) finish(ctx context.Context) error {
	f.finished.Do(func() { close(f.finishing) })
	select {
	case <-f.done:
	case <-ctx.Done():
		f.stop(errGivenUp)
		<-f.done
	}
	if f.err == nil {
		return nil
	}
	_, size, err := identify(f.log)
	return errors.Join(fmt.Errorf("task %s: the last %d bytes of its log are lost: %w", f.req.Task, size-f.pos.Done.Offset, f.err), err)
}

// status adds to st how the follower is doing; it may be called from any goroutine.
func (f *follower) status(st *TaskStatus) error {
	_, size, err := identify(f.log)
	st.Backlog = max(0, size-f.offset.Load())
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
