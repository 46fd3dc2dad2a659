package logs

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// A restart, however often and whatever the log process is doing, repeats and loses nothing, and
// no reader sees the end of its FIFO.
func TestRestart(t *testing.T) {
	x, p := newFixture(t, "a/web"), supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	const last = 30000
	wrote := x.write(last)
	p.restart(unix.SIGTERM) // nobody reads yet
	out, err := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	for i := 1; i <= 5; i++ {
		out.await(t, atLeast(last*i/6))
		p.restart(unix.SIGTERM)
	}
	<-wrote
	must.StrHasSuffix(t, finish(t, p, x.req.Task), numbered(1, last))
	must.EqOp(t, numbered(1, last), out.end())
	must.EqOp(t, numbered(1, last), err.end())
	must.Zero(t, p.kept())
}

// After a SIGKILL at most the last write of each stream repeats.
func TestKill(t *testing.T) {
	x, p := newFixture(t, "a/web"), supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	const last, kills = 30000, 5
	out, err := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
	wrote := x.write(last)
	for i := 1; i <= kills; i++ {
		out.await(t, atLeast(last*i/(kills+1)))
		p.restart(unix.SIGKILL)
	}
	<-wrote
	finish(t, p, x.req.Task)
	for _, text := range []string{out.end(), err.end()} {
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
func TestLostStore(t *testing.T) {
	x, p := newFixture(t, "a/web"), supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	x.conmon.print(stdout, numbered(1, 20000))
	awaitStatus(t, p.Client, func(st TaskStatus) bool { return st.Unread > 0 })
	p.end(unix.SIGTERM)
	p.drop("")
	p.start()
	out := newLogmon(t, x.req.Stdout)
	finish(t, p, x.req.Task)
	must.EqOp(t, numbered(1, 20000), out.end())
}

// A task whose allocation has gone meanwhile is forgotten; one whose log has gone is not.
func TestGoneWhileDown(t *testing.T) {
	x, p := newFixture(t, "a/web"), supervise(t)
	must.NoError(t, p.Follow(soon(t), x.req))
	p.end(unix.SIGKILL)
	p.drop("log-")
	must.NoError(t, os.Remove(x.req.File))
	p.start()
	awaitStatus(t, p.Client, func(st TaskStatus) bool { return strings.Contains(st.Error, "no such file") })
	must.ErrorContains(t, p.Follow(soon(t), x.req), "no such file")
	p.end(unix.SIGKILL)
	p.drop("")
	must.NoError(t, os.RemoveAll(x.dir))
	p.start()
	ctx := soon(t)
	for {
		tasks, err := p.Tasks(ctx)
		must.NoError(t, err)
		if len(tasks) == 0 {
			break
		}
	}
}

// After a reboot all have gone, and are forgotten at the same time.
func TestAllGoneWhileDown(t *testing.T) {
	p := serve(t, ServeConfig{})
	for i := range 50 {
		x := newFixture(t, strconv.Itoa(i))
		must.NoError(t, p.Follow(soon(t), x.req))
		must.NoError(t, os.RemoveAll(x.dir))
	}
	must.NoError(t, p.stop())
	p = serve(t, p.config)
	ctx := soon(t)
	for {
		tasks, err := p.Tasks(ctx)
		must.NoError(t, err)
		if len(tasks) == 0 {
			break
		}
	}
}

// write prints numbered lines to both streams.
func (x *fixture) write(last int) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= last; i++ {
			x.conmon.print(stdout, numbered(i, i))
			x.conmon.print(stderr, numbered(i, i))
		}
	}()
	return done
}

func atLeast(lines int) func([]byte) bool {
	want := len(numbered(1, lines))
	return func(got []byte) bool { return len(got) >= want }
}
