package logs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func TestTwoStreamsToTheEnd(t *testing.T) {
	x, p := newFixture(t, "a/web"), serve(t, ServeConfig{})
	long := strings.Repeat("0123456789abcdef", 1<<16) + "\n" // 1 MiB
	out, err := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	x.conmon.print(stdout, "before\n")
	must.NoError(t, p.Follow(soon(t), x.req))
	must.NoError(t, p.Follow(soon(t), x.req)) // idempotent
	x.conmon.print(stderr, "a\x00b\xff\n")
	x.conmon.print(stdout, long)
	out.await(t, func(got []byte) bool { return string(got) == "before\n"+long })
	x.conmon.print(stdout, "no newline")
	must.EqOp(t, "a\x00b\xff\n", finish(t, p, x.req.Task))
	must.EqOp(t, "before\n"+long+"no newline", out.end())
	must.EqOp(t, "a\x00b\xff\n", err.end())
	tasks, e := p.Tasks(soon(t))
	must.NoError(t, e)
	must.SliceEmpty(t, tasks)
	left, e := filepath.Glob(filepath.Join(p.config.StateDir, "*"))
	must.NoError(t, e)
	must.Eq(t, []string{filepath.Join(p.config.StateDir, "lock")}, left)
	must.EqOp(t, "", finish(t, p, x.req.Task)) // idempotent
}

// A reader that is not there yet gets everything; one that never comes stalls nobody, and costs
// what is in its log.
func TestAbsentReaders(t *testing.T) {
	late, never, other, p := newFixture(t, "late"), newFixture(t, "never"), newFixture(t, "other"), serve(t, ServeConfig{})
	otherOut := newLogmon(t, other.req.Stdout)
	for _, x := range []*fixture{late, never, other} {
		must.NoError(t, p.Follow(soon(t), x.req))
	}
	text := numbered(1, 20000)
	late.conmon.print(stdout, text)
	never.conmon.print(stdout, text)
	other.conmon.print(stdout, text)
	finish(t, p, other.req.Task)
	must.EqOp(t, text, otherOut.end())

	lateOut := newLogmon(t, late.req.Stdout)
	finish(t, p, late.req.Task)
	must.EqOp(t, text, lateOut.end())

	tasks, err := p.Tasks(soon(t))
	must.NoError(t, err)
	must.Len(t, 1, tasks)
	must.EqOp(t, "never", tasks[0].Task)
	must.Positive(t, tasks[0].Backlog)
	must.Positive(t, tasks[0].Unread)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = p.Finish(ctx, never.req.Task)
	must.ErrorContains(t, err, "bytes of its log are lost: its FIFOs were not read in time")
	tasks, err = p.Tasks(soon(t))
	must.NoError(t, err)
	must.SliceEmpty(t, tasks)
}

// Past the limit the oldest lines go, with a line that says so, and the file stays small.
func TestBacklogLimit(t *testing.T) {
	const limit = 1 << 20
	x, p := newFixture(t, "a/stuck"), serve(t, ServeConfig{Backlog: limit})
	must.NoError(t, p.Follow(soon(t), x.req))
	const last = 60000
	for i := 1; i <= last; i += 1000 {
		x.conmon.print(stdout, numbered(i, i+999))
	}
	awaitStatus(t, p.Client, func(st TaskStatus) bool { return st.Dropped > 0 && st.Backlog <= limit })
	drops, err := p.Drops(soon(t), nil)
	must.NoError(t, err)
	must.Len(t, 1, drops)
	must.EqOp(t, x.req.Task, drops[0].Task)
	info, err := os.Stat(x.req.File)
	must.NoError(t, err)
	must.Less(t, limit+2*collapseStep, info.Size())
	out, errs := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	stderr, err := p.Finish(soon(t), x.req.Task)
	must.ErrorContains(t, err, "bytes of its log were dropped because nobody read it in time")
	must.StrContains(t, string(stderr), "output was dropped here") // with the error

	must.StrContains(t, errs.end(), "output was dropped here")
	text := out.end()
	must.StrHasPrefix(t, numbered(1, 1000), text)
	gap := strings.LastIndex(text, "\n[nomad-driver-podman: output was dropped here")
	must.Positive(t, gap)
	_, rest, _ := strings.Cut(text[gap+1:], "\n")
	must.Positive(t, len(rest))
	must.StrHasSuffix(t, rest, numbered(1, last))
}

// The driver hears of dropped lines when that happens, and again when it has become much more.
func TestDrops(t *testing.T) {
	const limit = 1 << 20
	x, p := newFixture(t, "a/stuck"), serve(t, ServeConfig{Backlog: limit})
	must.NoError(t, p.Follow(soon(t), x.req))
	overflow := func(known int64) {
		for i := 1; ; i += 1000 {
			x.conmon.print(stdout, numbered(i, i+999))
			tasks, err := p.Tasks(soon(t))
			must.NoError(t, err)
			if tasks[0].Dropped > known {
				return
			}
		}
	}
	heard := make(chan []Drop)
	ask := func(told []Drop) {
		go func() {
			drops, err := p.Drops(soon(t), told)
			if err != nil {
				t.Error(err)
			}
			heard <- drops
		}()
	}
	ask(nil)
	overflow(0)
	first := <-heard
	must.Len(t, 1, first)
	must.Positive(t, first[0].Bytes)

	ask(first)
	overflow(2 * first[0].Bytes)
	second := <-heard
	must.GreaterEq(t, 2*first[0].Bytes, second[0].Bytes)

	// What the driver was not told of is told after a restart, too, and what it was told of is not.
	must.NoError(t, p.stop())
	p = serve(t, p.config)
	_, err := p.Tasks(soon(t)) // waits until it is there
	must.NoError(t, err)
	drops, err := p.Drops(soon(t), nil)
	must.NoError(t, err)
	must.GreaterEq(t, second[0].Bytes, drops[0].Bytes)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = p.Drops(ctx, drops)
	must.ErrorIs(t, err, context.DeadlineExceeded)
	must.NoError(t, p.stop())
	p = serve(t, p.config)
	_, err = p.Tasks(soon(t))
	must.NoError(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = p.Drops(ctx, nil)
	must.ErrorIs(t, err, context.DeadlineExceeded)
}

// Who asks for drops before a task of the last process is opened again hears of them then.
func TestDropsOfReopened(t *testing.T) {
	x, p := newFixture(t, "a/stuck"), serve(t, ServeConfig{Backlog: 1 << 20})
	must.NoError(t, p.Follow(soon(t), x.req))
	for i := 1; i <= 60000; i += 1000 {
		x.conmon.print(stdout, numbered(i, i+999))
	}
	awaitStatus(t, p.Client, func(st TaskStatus) bool { return st.Dropped > 0 })
	must.NoError(t, p.stop())

	watch, err := newWatcher()
	must.NoError(t, err)
	defer func() { must.NoError(t, watch.close()) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := newRegistry(ctx, p.config, fdStore{}, watch)
	reopened := r.newTask(x.req)
	r.tasks[x.req.Task] = reopened
	asked := r.drop
	must.NoError(t, r.open(reopened, nil))
	select {
	case <-asked:
	default:
		t.Error("nobody looks again")
	}
	cancel()
	<-reopened.follower.done
	must.NoError(t, reopened.close())
}

func awaitStatus(t *testing.T, c *Client, cond func(TaskStatus) bool) {
	t.Helper()
	ctx := soon(t)
	for {
		tasks, err := c.Tasks(ctx)
		must.NoError(t, err)
		if len(tasks) == 1 && cond(tasks[0]) {
			return
		}
		must.NoError(t, ctx.Err(), must.Sprintf("last status: %+v", tasks))
	}
}

func TestFollowRefuses(t *testing.T) {
	p := serve(t, ServeConfig{})
	for name, c := range map[string]struct {
		change func(x *fixture)
		want   string
	}{
		"no task":       {func(x *fixture) { x.req.Task = "" }, "needs a key"},
		"relative path": {func(x *fixture) { x.req.File = "ctr.log" }, "not an absolute path"},
		"no log file":   {func(x *fixture) { x.req.File += ".not" }, "no such file"},
		"no FIFO":       {func(x *fixture) { x.req.Stdout += ".not" }, "no such file"},
		"not a FIFO": {func(x *fixture) {
			must.NoError(t, os.Remove(x.req.Stderr))
			must.NoError(t, os.WriteFile(x.req.Stderr, nil, 0o600))
		}, "not a FIFO"},
		"FIFO behind a link out": {func(x *fixture) {
			elsewhere := newFixture(t, "victim")
			must.NoError(t, os.RemoveAll(filepath.Dir(x.req.Stdout)))
			must.NoError(t, os.Symlink(filepath.Dir(elsewhere.req.Stdout), filepath.Dir(x.req.Stdout)))
		}, "escapes"},
		"log behind a link": {func(x *fixture) {
			must.NoError(t, os.Rename(x.req.File, x.req.File+".real"))
			must.NoError(t, os.Symlink(x.req.File+".real", x.req.File))
		}, "symbolic links"},
		"log is a FIFO": {func(x *fixture) {
			must.NoError(t, os.Remove(x.req.File))
			must.NoError(t, unix.Mkfifo(x.req.File, 0o600))
		}, "not a regular file"},
		"unknown user": {func(x *fixture) { x.req.UID = 987654321 }, "no such host user"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newFixture(t, name)
			c.change(x)
			must.ErrorContains(t, p.Follow(soon(t), x.req), c.want)
			tasks, err := p.Tasks(soon(t))
			must.NoError(t, err)
			must.SliceEmpty(t, tasks)
		})
	}
	t.Run("twice", func(t *testing.T) {
		x, y := newFixture(t, "x"), newFixture(t, "y")
		must.NoError(t, p.Follow(soon(t), x.req))
		y.req.File = x.req.File
		must.ErrorContains(t, p.Follow(soon(t), y.req), "followed for another task")
		y.req.Task = x.req.Task
		must.ErrorContains(t, p.Follow(soon(t), y.req), "finish it first")
	})
}

func TestOneProcessPerStateDir(t *testing.T) {
	x, p := newFixture(t, "a"), serve(t, ServeConfig{})
	must.NoError(t, p.Follow(soon(t), x.req))
	must.ErrorContains(t, Serve(t.Context(), p.config), "another log process")
	must.NoError(t, p.stop())
	must.NoError(t, os.Chmod(p.config.StateDir, 0o755)) //nolint:gosec // the point
	must.ErrorContains(t, Serve(t.Context(), p.config), "chmod 0700")
}

func TestTail(t *testing.T) {
	var kept tail
	var all []byte
	for i := range 3 * maxTail {
		text := bytes.Repeat([]byte{byte(i)}, i%7)
		if i%1000 == 999 {
			text = bytes.Repeat(text, maxTail)
		}
		kept.add(text)
		all = append(all, text...)
		must.EqOp(t, string(all[max(0, len(all)-maxTail):]), string(kept))
	}
	must.Less(t, 4*maxTail, cap(kept))

	kept = nil
	kept.add([]byte("one\ntwo\n"))
	must.Eq(t, "one\ntwo\n", string(kept.lines()))
	whole := numbered(1, 50)
	kept.add([]byte(strings.Repeat("x", maxTail) + "\n" + whole))
	must.Eq(t, whole, string(kept.lines()))
}
