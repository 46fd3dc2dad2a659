package logs

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// carry delivers the next chunk of the file. It returns false at its end.
func (f *follower) carry(ctx context.Context, last bool) (more bool, err error) {
	if f.bufs == nil {
		f.bufs = pool.Get().(*buffers) //nolint:errcheck // holds nothing else
	}
	n, err := f.log.ReadAt(f.bufs.in[:], f.pos.Read.Offset)
	if err != nil && err != io.EOF {
		return false, err
	}
	if n == 0 {
		return f.truncated()
	}
	src := f.bufs.in[:n]
	if end := bytes.LastIndexByte(src, '\n'); end >= 0 {
		src = src[:end+1] // whole lines, so that what a kill makes repeat are whole lines
	}
	out := f.notice()
	used, state := f.pos.Read.State.split(&out, src)
	if used == 0 {
		if !last {
			return false, nil // within a line's header
		}
		out[stdout] = append(out[stdout], src...)
		used = len(src)
	}
	skipped, err := f.deliver(ctx, &out)
	if err != nil || skipped {
		return true, err
	}
	f.pos.Read = mark{Offset: f.pos.Read.Offset + int64(used), State: state}
	f.pos.Sent = [streams]uint32{}
	f.pos.Gap = false
	f.pass()
	if err := f.account(); err != nil {
		return false, err
	}
	f.checkpoint()
	f.trim(n < chunk)
	return true, nil
}

// truncated starts over when someone has truncated the file; conmon never does.
func (f *follower) truncated() (bool, error) {
	behind, err := f.behind()
	if err != nil || behind >= 0 {
		return false, err
	}
	f.logger.Warn("the log file was truncated by somebody; starting over", "task", f.req.Task, "file", f.req.File)
	f.restartAt(0)
	return true, nil
}

// behind returns how many bytes of the file were not read yet.
func (f *follower) behind() (int64, error) {
	_, size, err := identify(f.log)
	return size - f.pos.Read.Offset, err
}

// deliver writes a chunk's text, less what was sent before, to the FIFOs, and waits for room in them.
// It returns true when it has skipped forward in the file instead, because nobody reads.
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
		behind, err := f.behind()
		if err != nil {
			return 0, false, err
		}
		if behind > f.limit {
			return 0, true, f.drop(behind)
		}
		n, err := w.waitWrite(p)
		if n > 0 || err != nil {
			return n, false, err
		}
	}
}

// drop skips the older part of what nobody has read.
func (f *follower) drop(behind int64) error {
	// To the middle, so that it is not done for every line; from there to the next line's start.
	to := f.pos.Read.Offset + behind - f.limit/2
	n, err := f.log.ReadAt(f.bufs.in[:], to)
	if err != nil && err != io.EOF {
		return err
	}
	to += int64(bytes.IndexByte(f.bufs.in[:n], '\n') + 1)
	dropped := to - f.pos.Read.Offset
	f.pos.Dropped += dropped
	f.restartAt(to)
	f.pos.Gap = true
	for s, w := range f.fifos {
		f.pos.MidLine[s] = w.midLine
	}
	f.logger.Warn("dropped the oldest lines of a log that nobody reads", "task", f.req.Task, "bytes", dropped)
	f.checkpoint()
	f.trim(true)
	return nil
}

// notice returns the follower's output buffers, empty but for the line that tells of a gap before
// the text that comes next.
func (f *follower) notice() (out output) {
	for s := range out {
		out[s] = f.bufs.out[s][:0]
		if !f.pos.Gap {
			continue
		}
		if f.pos.MidLine[s] {
			out[s] = append(out[s], '\n')
		}
		out[s] = fmt.Appendf(out[s], "[nomad-driver-podman: output was dropped here because nobody read it; %d bytes so far]\n", f.pos.Dropped)
	}
	return out
}

// restartAt goes on reading at a line's start elsewhere in the file.
func (f *follower) restartAt(offset int64) {
	f.pos.Read = mark{Offset: offset}
	f.pos.Done = f.pos.Read
	f.pos.Sent = [streams]uint32{}
	f.marks = f.marks[:0]
	f.pass()
}
