package logs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

const when = "2026-01-02T03:04:05.000000001+00:00"

// splitAll splits text that arrives in pieces which end at the given places.
func splitAll(text string, cuts ...int) (out output) {
	state, read := lineStart, 0
	for _, end := range append(cuts, len(text)) {
		if end < read || end > len(text) {
			continue
		}
		used, next := state.split(&out, []byte(text[read:end]))
		read, state = read+used, next
	}
	out[stdout] = append(out[stdout], text[read:]...)
	return out
}

func TestSplit(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct{ log, out, err string }{
		"empty":                   {},
		"full":                    {log: when + " stdout F hello\n", out: "hello\n"},
		"stderr":                  {log: when + " stderr F oops\n", err: "oops\n"},
		"empty line":              {log: when + " stdout F \n", out: "\n"},
		"partial":                 {log: when + " stdout P hel\n" + when + " stdout F lo\n", out: "hello\n"},
		"partial at the end":      {log: when + " stdout P prompt> \n", out: "prompt> "},
		"partials of two streams": {log: when + " stdout P a\n" + when + " stderr P b\n" + when + " stdout F c\n" + when + " stderr F d\n", out: "ac\n", err: "bd\n"},
		"binary":                  {log: when + " stdout F a\x00\xff\r b\n", out: "a\x00\xff\r b\n"},
		"header in the text":      {log: when + " stdout F " + when + " stderr F x\n", out: when + " stderr F x\n"},
		"UTC":                     {log: "2026-01-02T03:04:05Z stdout F x\n", out: "x\n"},
		"long":                    {log: when + " stdout P " + long + "\n" + when + " stdout F " + long + "\n", out: long + long + "\n"},
		"no header":               {log: "hello world\n" + when + " stdout F x\n", out: "hello world\nx\n"},
		"empty malformed":         {log: "\n\n" + when + " stderr F x\n", out: "\n\n", err: "x\n"},
		"unknown stream":          {log: when + " stdin F x\n", out: when + " stdin F x\n"},
		"unknown tag":             {log: when + " stdout X x\n", out: when + " stdout X x\n"},
		"no text":                 {log: when + " stdout F\n", out: when + " stdout F\n"},
		"NULs of a hole":          {log: "\x00\x00\x00\n" + when + " stdout F x\n", out: "\x00\x00\x00\nx\n"},
		"cut in the time":         {log: when[:8], out: when[:8]},
		"cut in the header":       {log: when + " std", out: when + " std"},
		"cut in the text":         {log: when + " stderr F x", err: "x"},
		"long time":               {log: when + "0000000000000000 stdout F x\n", out: when + "0000000000000000 stdout F x\n"},
		"short time":              {log: "2026 stdout F x\n", out: "2026 stdout F x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := splitAll(c.log)
			must.EqOp(t, c.out, string(got[stdout]))
			must.EqOp(t, c.err, string(got[stderr]))
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	var log []byte
	for i := 0; len(log) < chunk-200; i++ {
		log = fmt.Appendf(log, "%s %s F line %d of a service that says what it does\n", when, []string{"stdout", "stderr"}[i%2], i)
	}
	var out output
	for s := range out {
		out[s] = make([]byte, 0, chunk)
	}
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		out[stdout], out[stderr] = out[stdout][:0], out[stderr][:0]
		if used, _ := lineStart.split(&out, log); used != len(log) {
			b.Fatal(used)
		}
	}
}
