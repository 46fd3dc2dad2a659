package logs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/shoenig/test/must"
)

// logText is a log of 16 MiB with a stderr line among nine of stdout.
func logText() []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < 16<<20; i++ {
		name := "stdout"
		if i%10 == 0 {
			name = "stderr"
		}
		fmt.Fprintf(&b, "%s %s F line %d of a service that says what it does\n", when, name, i)
	}
	return b.Bytes()
}

// discardFIFO reads a FIFO to its end.
func discardFIFO(b *testing.B, path string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		f, err := os.Open(path)
		if err != nil {
			b.Error(err)
			return
		}
		if _, err := io.Copy(io.Discard, f); err != nil {
			b.Error(err)
		}
		_ = f.Close()
	}()
	return done
}

// BenchmarkFollow carries a log from its file to two readers, dropping what they have read.
func BenchmarkFollow(b *testing.B) {
	text, p := logText(), serve(b, ServeConfig{})
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		x := newFixture(b, "bench")
		_, err := x.conmon.file.Write(text)
		must.NoError(b, err)
		out, errs := discardFIFO(b, x.req.Stdout), discardFIFO(b, x.req.Stderr)
		b.StartTimer()
		must.NoError(b, p.Follow(b.Context(), x.req))
		finish(b, p, x.req.Task)
		<-out
		<-errs
	}
}

// BenchmarkCopy is what BenchmarkFollow compares with: the file copied to one reader as it is.
func BenchmarkCopy(b *testing.B) {
	text := logText()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		b.StopTimer()
		x := newFixture(b, "bench")
		_, err := x.conmon.file.Write(text)
		must.NoError(b, err)
		done := discardFIFO(b, x.req.Stdout)
		b.StartTimer()
		from, err := os.Open(x.req.File)
		must.NoError(b, err)
		to, err := os.OpenFile(x.req.Stdout, os.O_WRONLY, 0)
		must.NoError(b, err)
		_, err = io.Copy(to, struct{ io.Reader }{from}) // not by splice(2)
		must.NoError(b, err)
		must.NoError(b, from.Close())
		must.NoError(b, to.Close())
		<-done
	}
}

// BenchmarkIdle reports what a task costs that says nothing any more.
func BenchmarkIdle(b *testing.B) {
	const tasks = 50
	p := serve(b, ServeConfig{})
	memory := func() uint64 {
		runtime.GC()
		runtime.GC() // the pool's buffers live for one more
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	fixtures := make([]*fixture, tasks)
	for i := range fixtures {
		fixtures[i] = newFixture(b, fmt.Sprint(i))
	}
	before := memory()
	for _, x := range fixtures {
		x.conmon.print(stdout, "started\n")
		must.NoError(b, p.Follow(b.Context(), x.req))
	}
	for b.Loop() {
		_, err := p.Tasks(b.Context())
		must.NoError(b, err)
	}
	b.ReportMetric(float64(memory()-before)/tasks, "B/task")
}
