package sockets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

var sessionID = strings.Repeat("0f", 32)

func frame(stream byte, text string) string {
	return string([]byte{stream, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

// commands is a podman on which every command is the function, which has the connection to itself.
func commands(t *testing.T, run func(conn *net.UnixConn)) *Client {
	t.Helper()
	return service(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/containers/abc/exec":
			_, _ = io.WriteString(w, `{"Id":"`+sessionID+`"}`)
		case "/exec/" + sessionID + "/start":
			_, _ = io.Copy(io.Discard, r.Body)
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			if unixConn, is := conn.(*net.UnixConn); is && buffered.Reader.Buffered() == 0 {
				run(unixConn)
			}
		}
	})
}

// startExec starts a command.
func startExec(t *testing.T, c *Client, e Exec) *ExecStream {
	t.Helper()
	session, err := c.CreateExec(t.Context(), "abc", e)
	must.NoError(t, err)
	must.Eq(t, sessionID, session.ID())
	// What bounds the start has no hold on the stream.
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := session.Start(ctx, nil)
	cancel()
	must.NoError(t, err)
	t.Cleanup(func() { _ = stream.Close() })
	return stream
}

func TestExecStreams(t *testing.T) {
	c := commands(t, func(conn *net.UnixConn) {
		input, _ := io.ReadAll(conn) // up to the half-close
		_, _ = io.WriteString(conn, frame(1, "out: "+string(input))+frame(2, "err")+frame(1, "")+frame(1, strings.Repeat("x", 9000)))
	})
	stream := startExec(t, c, Exec{Command: []string{"cat"}, Stdin: true})
	_, err := io.WriteString(stream, "input")
	must.NoError(t, err)
	must.NoError(t, stream.CloseWrite())
	var stdout, stderr bytes.Buffer
	must.NoError(t, stream.Copy(&stdout, &stderr))
	must.Eq(t, "out: input"+strings.Repeat("x", 9000), stdout.String())
	must.Eq(t, "err", stderr.String())
}

func TestExecTerminal(t *testing.T) {
	c := commands(t, func(conn *net.UnixConn) { _, _ = io.WriteString(conn, "\x01\x00\x00\x00 is no frame here") })
	var stdout, stderr bytes.Buffer
	must.NoError(t, startExec(t, c, Exec{Command: []string{"sh"}, TTY: true}).Copy(&stdout, &stderr))
	must.Eq(t, "\x01\x00\x00\x00 is no frame here", stdout.String())
	must.Eq(t, 0, stderr.Len())
}

func TestExecFrames(t *testing.T) {
	for name, test := range map[string]struct{ sent, says string }{
		"of no stream":      {frame(3, "x"), "begins no frame"},
		"of standard input": {frame(0, "x"), "begins no frame"},
		"of something else": {"HTTP/1.1 ", "begins no frame"},
		"too long":          {"\x01\x00\x00\x00\x7f\xff\xff\xff", ErrTooLarge.Error()},
		"cut in its header": {frame(1, "a") + "\x01\x00", io.ErrUnexpectedEOF.Error()},
		"cut":               {frame(1, "whole")[:10], io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			c := commands(t, func(conn *net.UnixConn) { _, _ = io.WriteString(conn, test.sent) })
			err := startExec(t, c, Exec{Command: []string{"x"}}).Copy(io.Discard, io.Discard)
			must.ErrorContains(t, err, "podman of host user x: reading the output of command "+sessionID[:12])
			must.ErrorContains(t, err, test.says)
		})
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("nobody reads this") }

// The end of a stream tells that a command has ended, so it is reached whatever happens to the output.
func TestExecOutputThatNobodyTakes(t *testing.T) {
	c := commands(t, func(conn *net.UnixConn) { _, _ = io.WriteString(conn, frame(1, "a")+frame(2, "b")+frame(1, "c")) })
	var stderr bytes.Buffer
	must.NoError(t, startExec(t, c, Exec{Command: []string{"x"}}).Copy(failing{}, &stderr))
	must.Eq(t, "b", stderr.String())
}

// podman closes the connection of a command that has left input, which resets it.
func TestExecInputThatNobodyTakes(t *testing.T) {
	arrived := make(chan struct{})
	c := commands(t, func(conn *net.UnixConn) {
		_, _ = conn.Read(make([]byte, 1))
		_, _ = io.WriteString(conn, frame(1, "out"))
		close(arrived)
	})
	stream := startExec(t, c, Exec{Command: []string{"true"}, Stdin: true})
	_, err := io.WriteString(stream, "more than one byte")
	must.NoError(t, err)
	<-arrived
	var stdout bytes.Buffer
	must.NoError(t, stream.Copy(&stdout, io.Discard))
	must.Eq(t, "out", stdout.String())
}

func TestExecRequests(t *testing.T) {
	var path, query string
	var body map[string]any
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		path, query, body = r.Method+" "+r.URL.Path, r.URL.Query().Encode(), nil
		_ = json.NewDecoder(r.Body).Decode(&body)
		_, _ = io.WriteString(w, `{"Id":"`+sessionID+`","Running":true,"Pid":42,"ExitCode":7}`)
	})
	session, err := c.CreateExec(t.Context(), "abc", Exec{Command: []string{"sh", "-c", "ls"}, Stdin: true, TTY: true})
	must.NoError(t, err)
	must.Eq(t, "POST /containers/abc/exec", path)
	must.Eq(t, map[string]any{
		"Cmd": []any{"sh", "-c", "ls"}, "Tty": true, "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "DetachKeys": detachKeys,
	}, body)
	must.StrHasPrefix(t, "ctrl-^,ctrl-^,", detachKeys)
	must.StrHasSuffix(t, ",ctrl-^", detachKeys)

	_, err = session.Start(t.Context(), &TerminalSize{Height: 24, Width: 80})
	must.ErrorContains(t, err, "did not hand the connection over (HTTP status 200)")
	must.Eq(t, "POST /exec/"+sessionID+"/start", path)
	must.Eq(t, map[string]any{"Detach": false, "Tty": true, "h": 24.0, "w": 80.0}, body)

	must.NoError(t, session.Resize(t.Context(), TerminalSize{Height: 24, Width: 80}))
	must.Eq(t, "POST /exec/"+sessionID+"/resize", path)
	must.Eq(t, "h=24&running=true&w=80", query)

	state, err := session.Inspect(t.Context())
	must.NoError(t, err)
	must.Eq(t, "GET /exec/"+sessionID+"/json", path)
	must.Eq(t, ExecState{Running: true, Pid: 42, ExitCode: 7}, state)

	must.NoError(t, session.Remove(t.Context()))
	must.Eq(t, "POST /exec/"+sessionID+"/remove", path)
	must.Eq(t, map[string]any{"Force": false}, body)
}

func TestExecErrors(t *testing.T) {
	for _, id := range []string{"", "abc", sessionID + "00", strings.Repeat("-c", 32)} {
		_, err := service(t, answer(`{"Id":"`+id+`"}`)).CreateExec(t.Context(), "abc", Exec{Command: []string{"x"}})
		must.ErrorContains(t, err, "no ID of a session")
	}
	c := service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"message":"container is not running"}`)
	})
	_, err := c.CreateExec(t.Context(), "abc", Exec{Command: []string{"x"}})
	must.ErrorContains(t, err, "container is not running (HTTP status 409)")
	session := &ExecSession{client: c, id: sessionID}
	_, err = session.Start(t.Context(), nil)
	must.ErrorContains(t, err, "container is not running (HTTP status 409)")

	session.client = service(t, http.NotFound)
	must.ErrorIs(t, session.Remove(t.Context()), ErrNotFound)
}

func TestExecStartTimesOut(t *testing.T) {
	release := make(chan struct{})
	c := service(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	c.timeout = 20 * time.Millisecond
	_, err := (&ExecSession{client: c, id: sessionID}).Start(t.Context(), nil)
	must.ErrorIs(t, err, context.DeadlineExceeded)
	must.ErrorContains(t, err, "client_http_timeout")
}

// An answer that turns the connection into something else would escape every deadline.
func TestSwitchThatNobodyAskedFor(t *testing.T) {
	release := make(chan struct{})
	c := service(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		<-release
	})
	t.Cleanup(func() { close(release) })
	_, err := c.Inspect(t.Context(), "abc")
	must.ErrorContains(t, err, "HTTP status 101")
}
