package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// anybody lets the tests' journalctl run as whoever runs the tests.
var anybody = journalctl{user: func() (*syscall.Credential, error) { return nil, nil }}

const (
	testContainer  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherContainer = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

// journal is a file that the tests' journalctl shows as the journal.
type journal struct {
	t    *testing.T
	file *os.File
}

// record is one entry of it.
type record struct {
	Container string
	UID       int
	Priority  string
	Text      []byte
}

// newJournal puts the tests' journalctl into PATH.
func newJournal(t *testing.T) *journal {
	dir := t.TempDir()
	file, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	self, err := os.Executable()
	must.NoError(t, err)
	script := fmt.Sprintf("#!/bin/sh\nexec env %s LOGS_TEST_PROCESS= LOGS_TEST_JOURNAL='%s' '%s' \"$@\"\n", endAtOnce, file.Name(), self)
	must.NoError(t, os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o700)) //nolint:gosec // to be run
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &journal{t: t, file: file}
}

func (j *journal) write(r record) {
	j.t.Helper()
	line, err := json.Marshal(r)
	must.NoError(j.t, err)
	_, err = j.file.Write(append(line, '\n'))
	must.NoError(j.t, err)
}

// print writes entries as conmon does: a line with its newline, or as much of it as there is.
func (j *journal) print(s stream, text string) {
	j.t.Helper()
	for text != "" {
		end := min(strings.Index(text, "\n")+1, 8192)
		if end <= 0 {
			end = min(len(text), 8192)
		}
		j.write(record{testContainer, os.Geteuid(), [streams]string{"6", "3"}[s], []byte(text[:end])})
		text = text[end:]
	}
}

// unsynchronized is the suffix of a file beside the journal that makes --sync fail.
const unsynchronized = ".unsynchronized"

// fakeJournalctl is what the log process asks of journalctl(1), over a journal in a file. When it follows, it ends like one
// that was killed every 2500 entries.
func fakeJournalctl(path string, args []string) error {
	after, matches := -1, map[string]string{}
	for _, arg := range args {
		if cursor, found := strings.CutPrefix(arg, "--after-cursor=n="); found {
			n, err := strconv.Atoi(cursor)
			if err != nil {
				return err
			}
			after = n
		} else if field, value, found := strings.Cut(arg, "="); found && !strings.HasPrefix(arg, "--") {
			matches[field] = value
		}
	}
	switch {
	case slices.Contains(args, "--sync"):
		if _, err := os.Stat(path + unsynchronized); err == nil {
			return errors.New("refused")
		}
		return nil
	case slices.Contains(args, "--lines=0"):
		return nil
	case !slices.Contains(args, "--output=export"), !slices.Contains(args, "--no-tail"):
		return fmt.Errorf("called with %q", args)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	in, out := bufio.NewReader(file), bufio.NewWriter(os.Stdout)
	for n, shown := 0, 0; ; n++ {
		line, err := in.ReadBytes('\n')
		for err == io.EOF && slices.Contains(args, "--follow") {
			if err := out.Flush(); err != nil {
				return err
			}
			// As journalctl does, it ends when nobody reads it any more.
			hangup := []unix.PollFd{{Fd: 1}}
			if n, _ := unix.Poll(hangup, 1); n > 0 {
				return errors.New("standard output was closed")
			}
			var rest []byte
			rest, err = in.ReadBytes('\n')
			line = append(line, rest...)
		}
		if err == io.EOF {
			return out.Flush()
		}
		var r record
		if err := errors.Join(err, json.Unmarshal(line, &r)); err != nil {
			return err
		}
		if n <= after || r.Container != matches["CONTAINER_ID_FULL"] || strconv.Itoa(r.UID) != matches["_UID"] {
			continue
		}
		head := fmt.Sprintf("__CURSOR=n=%d\n__REALTIME_TIMESTAMP=1\nPRIORITY=%s\nMESSAGE\n", n, r.Priority)
		text := binary.LittleEndian.AppendUint64([]byte(head), uint64(len(r.Text)))
		if _, err := out.Write(append(append(text, r.Text...), "\n\n"...)); err != nil {
			return err
		}
		if shown++; shown == 2500 && slices.Contains(args, "--follow") {
			return errors.Join(out.Flush(), errors.New("killed"))
		}
	}
}

func newJournalFixture(t *testing.T, task string) (*fixture, *journal) {
	x, j := newFixture(t, task), newJournal(t)
	x.req.File, x.req.Container = "", testContainer
	return x, j
}

func TestJournal(t *testing.T) {
	x, j := newJournalFixture(t, "a/web")
	p := serve(t, ServeConfig{})
	out, errs := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	long := strings.Repeat("0123456789abcdef", 1<<12) + "\n" // 64 KiB
	j.print(stdout, "before\n")
	must.NoError(t, p.Follow(soon(t), x.req))
	j.write(record{otherContainer, os.Geteuid(), "6", []byte("of another container\n")})
	j.write(record{testContainer, os.Geteuid() + 1, "6", []byte("forged by another user\n")})
	j.print(stderr, "a\x00b\xff\n")
	j.print(stdout, "\n"+long)
	out.await(t, func(got []byte) bool { return string(got) == "before\n\n"+long })
	j.print(stdout, "no newline")
	must.EqOp(t, "a\x00b\xff\n", finish(t, p, x.req.Task))
	must.EqOp(t, "before\n\n"+long+"no newline", out.end())
	must.EqOp(t, "a\x00b\xff\n", errs.end())
	tasks, err := p.Tasks(soon(t))
	must.NoError(t, err)
	must.SliceEmpty(t, tasks)
}

// What a container has printed by its end arrives, whatever ends meanwhile: the log process by SIGTERM, and journalctl
// again and again.
func TestJournalRestart(t *testing.T) {
	x, j := newJournalFixture(t, "a/web")
	p := supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	const last = 3000
	wrote := j.count(last)
	p.restart(unix.SIGTERM) // nobody reads yet
	out, errs := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	for i := 1; i <= 2; i++ {
		out.await(t, atLeast(last*i/3))
		p.restart(unix.SIGTERM)
	}
	<-wrote
	finish(t, p, x.req.Task)
	must.EqOp(t, numbered(1, last), out.end())
	must.EqOp(t, numbered(1, last), errs.end())
	must.Zero(t, p.kept())
}

func TestJournalKill(t *testing.T) {
	x, j := newJournalFixture(t, "a/web")
	p := supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	const last, kills = 3000, 2
	out, errs := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	wrote := j.count(last)
	for i := 1; i <= kills; i++ {
		out.await(t, atLeast(last*i/(kills+1)))
		p.restart(unix.SIGKILL)
	}
	<-wrote
	finish(t, p, x.req.Task)
	for _, text := range []string{out.end(), errs.end()} {
		must.LessEq(t, kills*chunk, len(text)-len(numbered(1, last)))
		next := 1
		for line := range strings.Lines(text) {
			if line == numbered(next, next) {
				next++
			}
		}
		must.EqOp(t, last+1, next)
	}
}

// Without its FIFOs, what logmon may not have read is written again.
func TestJournalLostStore(t *testing.T) {
	x, j := newJournalFixture(t, "a/web")
	p := supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	j.print(stdout, numbered(1, 500))
	awaitStatus(t, p.Client, func(st TaskStatus) bool { return st.Unread == int64(len(numbered(1, 500))) })
	p.end(unix.SIGTERM)
	p.drop("")
	p.start()
	out := newLogmon(t, x.req.Stdout)
	finish(t, p, x.req.Task)
	must.EqOp(t, numbered(1, 500), out.end())
}

// count writes numbered lines to both streams.
func (j *journal) count(last int) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= last; i++ {
			j.print(stdout, numbered(i, i))
			j.print(stderr, numbered(i, i))
		}
	}()
	return done
}

func TestJournalRefused(t *testing.T) {
	p := serve(t, ServeConfig{})
	for name, c := range map[string]struct {
		change func(q *FollowRequest)
		want   string
	}{
		"short ID":      {func(q *FollowRequest) { q.Container = "0123456789ab" }, "not a full container ID"},
		"not an ID":     {func(q *FollowRequest) { q.Container = strings.Repeat("x", 64) }, "not a full container ID"},
		"file, too":     {func(q *FollowRequest) { q.File = "/ctr.log" }, "either in a file or in the journal"},
		"no journalctl": {func(*FollowRequest) { t.Setenv("PATH", "/nowhere") }, "the log driver journald cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t, "a/"+name)
			x.req.File, x.req.Container = "", testContainer
			c.change(&x.req)
			must.ErrorContains(t, p.Follow(soon(t), x.req), c.want)
			tasks, err := p.Tasks(soon(t))
			must.NoError(t, err)
			must.SliceEmpty(t, tasks)
			awaitNone(t, "(*journalReader)")
			awaitNone(t, "(*follower)")
		})
	}
}

// What a journal that was not synchronized has is delivered, and root, whom journald obeys, says that it may not be all.
func TestJournalUnsynchronized(t *testing.T) {
	x, j := newJournalFixture(t, "a/web")
	p := serve(t, ServeConfig{})
	out := newLogmon(t, x.req.Stdout)
	must.NoError(t, p.Follow(soon(t), x.req))
	must.NoError(t, os.WriteFile(j.file.Name()+unsynchronized, nil, 0o600))
	j.print(stdout, numbered(1, 500))
	_, err := p.Finish(soon(t), x.req.Task)
	if os.Geteuid() == 0 {
		must.ErrorContains(t, err, "the end of its log may be only in the journal (journalctl CONTAINER_ID_FULL="+testContainer+"): journalctl --sync: exit status 1")
	} else {
		must.NoError(t, err)
	}
	must.EqOp(t, numbered(1, 500), out.end())
}

func TestReadEntry(t *testing.T) {
	binaryField := func(name, value string) string {
		return name + "\n" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(value)))) + value + "\n"
	}
	const head = "__CURSOR=c1\n_BOOT_ID=b\n"
	entryOf := func(s stream, text string) entry {
		e := entry{stream: s, text: []byte(text)}
		copy(e.cursor[:], "c1")
		return e
	}
	for name, c := range map[string]struct {
		in   string
		want entry
		err  error
	}{
		"nothing":               {"", entry{}, io.EOF},
		"partial line":          {head + "MESSAGE=a=b\nPRIORITY=6\n\n", entryOf(stdout, "a=b"), nil},
		"line":                  {head + binaryField("MESSAGE", "a\n") + "PRIORITY=3\n\n", entryOf(stderr, "a\n"), nil},
		"binary":                {head + binaryField("MESSAGE", "\x00\n\xff\n\n") + "\n", entryOf(stdout, "\x00\n\xff\n\n"), nil},
		"looks like an entry":   {head + binaryField("MESSAGE", "\nPRIORITY=3\n\n") + "\n", entryOf(stdout, "\nPRIORITY=3\n\n"), nil},
		"priority of its own":   {head + "PRIORITY=2\nMESSAGE=a\n\n", entryOf(stderr, "a"), nil},
		"notice":                {head + "PRIORITY=4\nMESSAGE=a\n\n", entryOf(stdout, "a"), nil},
		"binary priority":       {head + binaryField("PRIORITY", "3\n") + "MESSAGE=a\n\n", entryOf(stdout, "a"), nil},
		"other binary field":    {head + binaryField("X", "MESSAGE=b\n\n") + "MESSAGE=a\n\n", entryOf(stdout, "a"), nil},
		"long text":             {head + "MESSAGE=" + strings.Repeat("x", 10*maxText) + "\nPRIORITY=3\n\n", entryOf(stderr, ""), nil},
		"long binary":           {head + binaryField("MESSAGE", strings.Repeat("\x01", 10*maxText)) + "PRIORITY=3\n\n", entryOf(stderr, ""), nil},
		"long name":             {head + strings.Repeat("X", 10*maxText) + "=1\nMESSAGE=a\n\n", entryOf(stdout, "a"), nil},
		"cut off in a line":     {head + "MESS", entry{}, io.ErrUnexpectedEOF},
		"cut off behind a line": {head + "MESSAGE=a\n", entry{}, io.ErrUnexpectedEOF},
		"cut off before a size": {head + "MESSAGE\n", entry{}, io.ErrUnexpectedEOF},
		"cut off in a size":     {head + "MESSAGE\n\x01\x00", entry{}, io.ErrUnexpectedEOF},
		"cut off in a long one": {head + "MESSAGE\n" + strings.Repeat("\xff", 8) + "\n\n", entry{}, io.ErrUnexpectedEOF},
		"cut off in a value":    {head + binaryField("MESSAGE", "abcdef")[:18], entry{}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReaderSize(strings.NewReader(c.in+"__CURSOR=next\nMESSAGE=next\n\n"), maxText)
			if c.err != nil {
				r = bufio.NewReaderSize(strings.NewReader(c.in), maxText)
			}
			got, err := readEntry(r)
			if c.err != nil {
				must.ErrorIs(t, err, c.err)
				return
			}
			must.NoError(t, err)
			must.EqOp(t, c.want.cursor.String(), got.cursor.String())
			must.EqOp(t, c.want.stream, got.stream)
			must.EqOp(t, string(c.want.text), string(got.text))
			next, err := readEntry(r)
			must.NoError(t, err)
			must.EqOp(t, "next", string(bytes.TrimSpace(next.text)))
		})
	}
}
