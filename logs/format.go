// Package logs carries containers' output to Nomad without losing a line.
//
// conmon writes what a container prints into a k8s-file log. One log process per
// node ([Serve]) follows those files, splits them into stdout and stderr, and writes
// Nomad's two FIFOs of each task. It outlives the driver and the agent; systemd keeps
// its descriptors while it restarts, so that no FIFO is ever without a writer while
// its task lives. The driver talks to it through a [Client].
package logs

import "bytes"

// stream is one of a container's two outputs.
type stream int

const (
	stdout stream = iota
	stderr
	streams
)

// lineState says where in a k8s-file line a position lies. Together with a file offset
// it is all that is needed to resume splitting there.
type lineState uint8

const (
	lineStart     lineState = iota
	stdoutFull              // in the text of an F line (or of a malformed one, which goes to stdout whole)
	stderrFull              // the same of stderr
	stdoutPartial           // in the text of a P line: its newline is conmon's, not the container's
	stderrPartial
)

func (s lineState) stream() stream {
	if s == stderrFull || s == stderrPartial {
		return stderr
	}
	return stdout
}

func (s lineState) partial() bool { return s == stdoutPartial || s == stderrPartial }

// output collects the text of each stream.
type output [streams][]byte

// split appends to out the text of the k8s-file lines in src, and returns how many bytes
// of src it used and the state after them. It leaves a line's header alone until that is
// complete: the caller presents those bytes again with what follows them. Wherever src
// is cut, the output is the same. The text is never longer than src, so it allocates nothing
// when out has room for len(src) bytes in each stream.
//
// The format is that of conmon's ctr_logging.c, write_k8s_log, which is the Kubernetes
// CRI's: "TIME stdout|stderr F|P text\n". conmon ends a line with P where the container
// had not printed a newline yet. Lines that do not have this form are passed on to stdout.
func (s lineState) split(out *output, src []byte) (used int, next lineState) {
	for used < len(src) {
		if s == lineStart {
			state, n := header(src[used:])
			if state == lineStart {
				return used, s
			}
			s = state
			used += n
			continue
		}
		to := s.stream()
		end := bytes.IndexByte(src[used:], '\n')
		if end < 0 {
			out[to] = append(out[to], src[used:]...)
			return len(src), s
		}
		end += used
		if s.partial() {
			out[to] = append(out[to], src[used:end]...)
		} else {
			out[to] = append(out[to], src[used:end+1]...)
		}
		used = end + 1
		s = lineStart
	}
	return used, s
}

// Lengths of the time stamp: conmon prints RFC 3339 with nanoseconds and a numeric offset.
const (
	minTimeLen = len("2006-01-02T15:04:05Z")
	maxTimeLen = len("2006-01-02T15:04:05.000000000+00:00") + 5
)

// header reads the header of the line that starts src. It returns the state of the text
// behind it and the header's length, (lineStart, 0) when src ends before that is decided, or
// (stdoutFull, 0) when this is not a header: then the line is passed on as it is.
// A decision never changes when more bytes follow.
func header(src []byte) (lineState, int) {
	const malformed = stdoutFull
	n := 0
	for ; n < len(src) && src[n] != ' '; n++ {
		if n == maxTimeLen || !inTime(src[n], n) {
			return malformed, 0
		}
	}
	if n == len(src) {
		return lineStart, 0
	}
	if n < minTimeLen {
		return malformed, 0
	}
	for _, f := range [...]struct {
		text  string
		state lineState
	}{
		{" stdout F ", stdoutFull},
		{" stderr F ", stderrFull},
		{" stdout P ", stdoutPartial},
		{" stderr P ", stderrPartial},
	} {
		rest := src[n:]
		if len(rest) > len(f.text) {
			rest = rest[:len(f.text)]
		}
		if string(rest) != f.text[:len(rest)] {
			continue
		}
		if len(rest) < len(f.text) {
			return lineStart, 0
		}
		return f.state, n + len(f.text)
	}
	return malformed, 0
}

// inTime reports whether c may stand at index i of an RFC 3339 time stamp.
func inTime(c byte, i int) bool {
	const date = "0000-00-00T00:00:00"
	if i < len(date) && date[i] != '0' {
		return c == date[i]
	}
	return '0' <= c && c <= '9' || i >= len(date) && (c == '.' || c == '+' || c == '-' || c == ':' || c == 'Z')
}
