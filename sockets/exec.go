package sockets

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFrame bounds a frame of a command's output, in bytes. podman's are as long as what conmon has read at once, 8 KiB.
const maxFrame = 1 << 20

// detachKeys are keys that nobody presses. podman looks for a sequence of keys in the input of every command, also
// without a terminal, and when they come one by one it lets go of a command that runs on. No sequence cannot be said:
// that means podman's own, which swallows the Ctrl-P of a shell.
var detachKeys = strings.TrimSuffix(strings.Repeat("ctrl-^,", 16), ",")

// Exec is a command to run in a container: as the container's user, in its working directory and environment.
type Exec struct {
	Command []string
	Stdin   bool // give it a standard input, else it has an empty one
	TTY     bool // give it a terminal, which stdout and stderr share
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Height, Width uint16 }

// ExecSession is podman's record of one command in a container.
type ExecSession struct {
	client *Client
	id     string
	tty    bool
}

// ExecState is what podman knows about a command.
type ExecState struct {
	Running  bool
	Pid      int // on the host; 0 when not running
	ExitCode int // of a command that has ended; 126 and 127 when it cannot be run or is not there, as in a shell
}

// CreateExec prepares a command in a running container. The session is the caller's to remove.
func (c *Client) CreateExec(ctx context.Context, idOrName string, e Exec) (*ExecSession, error) {
	r := containerRequest("preparing a command in", http.MethodPost, idOrName, "exec")
	r.body = map[string]any{
		"Cmd": e.Command, "Tty": e.TTY, "AttachStdin": e.Stdin, "AttachStdout": true, "AttachStderr": true, "DetachKeys": detachKeys,
	}
	var answer struct {
		ID string `json:"Id"`
	}
	if err := c.quick(ctx, r, &answer); err != nil {
		return nil, err
	}
	if !isID(answer.ID) {
		return nil, c.fail(r, errors.New("the answer has no ID of a session"))
	}
	return &ExecSession{client: c, id: answer.ID, tty: e.TTY}, nil
}

// ID identifies the session among all of its podman.
func (s *ExecSession) ID() string { return s.id }

// Start runs the command and connects to it. size is its terminal's at first; nil without one, or when it is not known.
// The command may run also when Start fails: Inspect tells.
func (s *ExecSession) Start(ctx context.Context, size *TerminalSize) (*ExecStream, error) {
	r := s.request("starting", http.MethodPost, "start")
	r.header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"tcp"}}
	body := map[string]any{"Detach": false, "Tty": s.tty}
	if size != nil {
		body["h"], body["w"] = size.Height, size.Width
	}
	r.body = body
	ctx, cancel := s.client.limit(ctx)
	defer cancel()
	resp, err := s.client.do(ctx, r)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, s.client.fail(r, err)
	}
	// After a switch of protocols the body is the connection, on which ctx has no hold any more (http.Response).
	conn, switched := resp.Body.(halfCloser)
	if !switched {
		err := fmt.Errorf("it did not hand the connection over (HTTP status %d)", resp.StatusCode)
		return nil, s.client.fail(r, errors.Join(err, resp.Body.Close()))
	}
	return &ExecStream{session: s, conn: conn}, nil
}

// Resize changes the size of the command's terminal. That it has ended is no error.
func (s *ExecSession) Resize(ctx context.Context, size TerminalSize) error {
	r := s.request("resizing the terminal of", http.MethodPost, "resize")
	r.query = url.Values{
		"h": {strconv.Itoa(int(size.Height))}, "w": {strconv.Itoa(int(size.Width))},
		"running": {"true"}, // pass over one that is not running
	}
	return s.client.quick(ctx, r, nil)
}

// Inspect asks how the command is. The error wraps ErrNotFound when podman has forgotten the session, at the latest
// with its container.
func (s *ExecSession) Inspect(ctx context.Context) (ExecState, error) {
	var state ExecState
	err := s.client.quick(ctx, s.request("inspecting", http.MethodGet, "json"), &state)
	return state, err
}

// Remove makes podman forget a command that has ended. podman before 4.8 cannot do that, and the error wraps
// ErrNotFound there; it forgets by itself some minutes later.
func (s *ExecSession) Remove(ctx context.Context) error {
	r := s.request("removing", http.MethodPost, "remove")
	r.body = map[string]any{"Force": false}
	return s.client.quick(ctx, r, nil)
}

func (s *ExecSession) request(doing, method, verb string) request {
	return request{what: fmt.Sprintf("%s command %.12s", doing, s.id), method: method, path: []string{"exec", s.id, verb}}
}

// ExecStream is the connection to a running command. Write and CloseWrite may be called while Copy runs.
type ExecStream struct {
	session *ExecSession
	conn    halfCloser
}

type halfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Write writes to the command's standard input.
func (s *ExecStream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite ends the command's standard input. A terminal goes on.
func (s *ExecStream) CloseWrite() error { return s.conn.CloseWrite() }

// Close ends the connection, not the command.
func (s *ExecStream) Close() error { return s.conn.Close() }

// Copy writes what the command prints to stdout and stderr, until podman ends the stream: with the command, when all
// is well. A terminal prints to stdout only. What a writer refuses is dropped, so that the end is always reached.
func (s *ExecStream) Copy(stdout, stderr io.Writer) (err error) {
	output := resettable{s.conn}
	if s.session.tty {
		_, err = io.Copy(&sink{writer: stdout}, output)
	} else {
		err = demultiplex(output, &sink{writer: stdout}, &sink{writer: stderr})
	}
	if err != nil {
		return s.session.client.fail(s.session.request("reading the output of", "", ""), err)
	}
	return nil
}

// demultiplex takes frames apart: the stream's number (1 is stdout, 2 stderr), three zero bytes, the length as a big
// endian number of 32 bits, and as many bytes (Docker Engine API, "Attach to a container", stream format).
func demultiplex(from io.Reader, stdout, stderr io.Writer) error {
	reader := bufio.NewReader(from)
	for {
		var header [8]byte
		if _, err := io.ReadFull(reader, header[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		to := stdout
		switch [4]byte(header[:4]) {
		case [4]byte{1}:
		case [4]byte{2}:
			to = stderr
		default:
			return fmt.Errorf("% x begins no frame", header)
		}
		length := binary.BigEndian.Uint32(header[4:])
		if length > maxFrame {
			return fmt.Errorf("a frame of %d bytes: %w", length, ErrTooLarge)
		}
		if _, err := io.CopyN(to, reader, int64(length)); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
}

// resettable ends also with a reset: podman ends the connection without reading the input that a command has left.
type resettable struct{ io.Reader }

func (r resettable) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

// sink takes everything, also after its writer has failed.
type sink struct {
	writer io.Writer
	failed bool
}

func (s *sink) Write(p []byte) (int, error) {
	if !s.failed {
		_, err := s.writer.Write(p)
		s.failed = err != nil
	}
	return len(p), nil
}
