package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// conmonLog is what conmon writes of a text: lines of at most so many bytes.
func conmonLog(s stream, text string, most int) string {
	var log strings.Builder
	for text != "" {
		line, tag := text[:min(len(text), most)], "P"
		rest := text[len(line):]
		if end := strings.IndexByte(line, '\n'); end >= 0 {
			line, rest, tag = line[:end], text[end+1:], "F"
		}
		log.WriteString(when + " " + [streams]string{"stdout", "stderr"}[s] + " " + tag + " " + line + "\n")
		text = rest
	}
	return log.String()
}

// Whatever a container prints arrives as it was, and wherever a log is cut, the output is the same and never longer.
func FuzzSplit(f *testing.F) {
	f.Add("a\nb", "c\n", when+" stdout P a\n"+when+" stderr F b\n", 3, 40)
	f.Add("\n\n", when+" stderr F x\n", when+" stdout F a\nmalformed\n"+when+" std", 50, 51)
	f.Add("\x00\xff\r", "", "\x00\x00\n"+when+"0 stdout F x\n", 0, 1)
	f.Fuzz(func(t *testing.T, printed, failed, log string, a, b int) {
		written := conmonLog(stdout, printed, 16) + conmonLog(stderr, failed, 16)
		got := splitAll(written)
		must.EqOp(t, printed, string(got[stdout]))
		must.EqOp(t, failed, string(got[stderr]))

		log = written + log
		var whole output
		fuzz.Cheap(t, len(log), 16, func() { whole = splitAll(log) })
		must.LessEq(t, len(log), len(whole[stdout])+len(whole[stderr]))
		each := make([]int, len(log))
		for i := range each {
			each[i] = i
		}
		cut, bytewise := splitAll(log, min(a, b), max(a, b)), splitAll(log, each...)
		for s := range streams {
			must.EqOp(t, string(whole[s]), string(cut[s]))
			must.EqOp(t, string(whole[s]), string(bytewise[s]))
		}
	})
}

// A stream's tail is its end, whatever pieces that comes in.
func FuzzTail(f *testing.F) {
	f.Add([]byte("a\nb"), 3)
	f.Add(bytes.Repeat([]byte("0123456789\n"), maxTail/8), 7)
	f.Add(bytes.Repeat([]byte("x"), maxTail+1), 1000)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var got tail
		for rest := text; len(rest) > 0; {
			n := min(len(rest), max(1, size))
			got.add(rest[:n])
			rest = rest[n:]
		}
		must.EqOp(t, string(text[max(0, len(text)-maxTail):]), string(got))
		lines := got.lines()
		must.True(t, bytes.HasSuffix(text, lines))
		must.Eq(t, len(text) == 0, len(lines) == 0)
	})
}

// Entries of any text and any other field arrive, and what is no entry ends the reading with a short error.
func FuzzReadEntry(f *testing.F) {
	f.Add([]byte("a\n"), []byte("_BOOT_ID"), []byte("b"), []byte("__CURSOR=c1\nPRIORITY=3\nMESSAGE=b\n\n"))
	f.Add([]byte("\x00\n\nPRIORITY=3\n\n"), []byte("X"), []byte("\n\nMESSAGE=b\n"), []byte("MESSAGE\n\x02\x00\x00\x00\x00\x00\x00\x00a\n\n\n"))
	f.Add([]byte{}, []byte("A=B"), []byte{}, []byte("MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff\n\n"))
	f.Add([]byte{}, []byte{}, []byte{}, []byte("__CURSOR="+strings.Repeat("\x1b", 200)+"\n\n"))
	f.Add([]byte{}, []byte{}, []byte{}, []byte(strings.Repeat("X", maxText+1)+"=1\n\n"))
	f.Fuzz(func(t *testing.T, text, name, value, sent []byte) {
		export := []byte("__CURSOR=c0\nPRIORITY=3\n")
		for _, field := range []struct{ name, value []byte }{{name, value}, {[]byte("MESSAGE"), text}} {
			if len(field.name) == 0 || bytes.ContainsAny(field.name, "=\n") || string(field.name) == "__CURSOR" || string(field.name) == "PRIORITY" {
				continue // no name that the journal takes, or another meaning
			}
			export = append(append(export, field.name...), '\n')
			export = binary.LittleEndian.AppendUint64(export, uint64(len(field.value)))
			export = append(append(export, field.value...), '\n')
		}
		sent = append(append(export, '\n'), sent...)
		var entries []entry
		fuzz.Cheap(t, len(sent), 64, func() { entries = readEntries(t, bytes.NewReader(sent)) })
		must.Positive(t, len(entries))
		must.EqOp(t, "c0", entries[0].cursor.String())
		must.EqOp(t, stderr, entries[0].stream)
		if len(text) <= maxText {
			must.EqOp(t, string(text), string(entries[0].text))
		}
		bytewise := readEntries(t, iotest.OneByteReader(bytes.NewReader(sent)))
		must.EqOp(t, len(entries), len(bytewise))
		for i, e := range bytewise {
			must.EqOp(t, string(entries[i].text), string(e.text))
			must.EqOp(t, entries[i].cursor, e.cursor)
		}
	})
}

func readEntries(t *testing.T, from io.Reader) (entries []entry) {
	t.Helper()
	for in := bufio.NewReaderSize(from, maxText); ; {
		e, err := readEntry(in)
		if err != nil {
			must.LessEq(t, 200, len(err.Error()))
			must.True(t, err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "journal entry"))
			return entries
		}
		must.LessEq(t, maxText, len(e.text))
		entries = append(entries, e)
	}
}
