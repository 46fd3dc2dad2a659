package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// Delivered text is dropped from the file behind a writer at full speed; no line is lost, and
// what is left still is a log that podman can read.
func TestTrim(t *testing.T) {
	for name, dir := range map[string]string{"temporary directory": "", "tmpfs": "/dev/shm"} {
		t.Run(name, func(t *testing.T) {
			x, p := newFixture(t, "a/loud"), serve(t, ServeConfig{})
			if dir != "" {
				var fs unix.Statfs_t
				must.NoError(t, unix.Statfs(dir, &fs))
				if fs.Type != unix.TMPFS_MAGIC {
					t.Skip(dir + " is not a tmpfs")
				}
				dir, err := os.MkdirTemp(dir, "logs")
				must.NoError(t, err)
				t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
				x.conmon = newConmon(t, dir)
				x.req.File = filepath.Join(dir, "ctr.log")
			}
			must.NoError(t, p.Follow(soon(t), x.req))
			out, errs := newLogmon(t, x.req.Stdout), newLogmon(t, x.req.Stderr)
			var text strings.Builder
			for i := range 5000 {
				line := fmt.Sprintf("%0500d\n", i)
				x.conmon.print(stdout, line)
				x.conmon.print(stderr, line)
				text.WriteString(line)
			}
			all := func(got []byte) bool { return len(got) >= text.Len() }
			out.await(t, all)
			errs.await(t, all)
			x.conmon.print(stdout, "end\n") // so that what was read last is noticed, too
			out.await(t, func(got []byte) bool { return bytes.HasSuffix(got, []byte("end\n")) })
			finish(t, p, x.req.Task)
			must.EqOp(t, text.String()+"end\n", out.end())
			must.EqOp(t, text.String(), errs.end())
			var st unix.Stat_t
			must.NoError(t, unix.Stat(x.req.File, &st))
			if st.Size < 2*collapseStep {
				rest, err := os.ReadFile(x.req.File)
				must.NoError(t, err)
				for line := range bytes.Lines(rest) {
					_, n := header(line)
					must.Positive(t, n, must.Sprintf("%q", line))
				}
			} else {
				must.EqOp(t, "tmpfs", name)
				must.Less(t, st.Size-punchStep/2, st.Blocks*512) // there is a hole, less a page for its newline
			}
		})
	}
}

// Whether a kill came before or after the cut is told by what the file starts with.
func TestSettle(t *testing.T) {
	const cut, size, window = 100, 300, 50
	text := []byte(strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz!", 10)[:size])
	path := filepath.Join(t.TempDir(), "log")
	must.NoError(t, os.WriteFile(path, text, 0o600))
	whole, err := os.Open(path)
	must.NoError(t, err)
	inode, _, err := identify(whole)
	must.NoError(t, err)
	saved := position{Inode: inode, Read: mark{Offset: 280, State: stderrFull}, Done: mark{Offset: 160}, Cut: cut, Window: window}
	saved.Behind, err = hashAt(whole, cut, window)
	must.NoError(t, err)

	before := saved
	must.NoError(t, before.settle(whole))
	must.EqOp(t, 280, before.Read.Offset)
	must.EqOp(t, 160, before.Done.Offset)

	must.NoError(t, os.WriteFile(path, text[cut:], 0o600))
	after := saved
	must.NoError(t, after.settle(whole))
	must.Eq(t, mark{Offset: 180, State: stderrFull}, after.Read)
	must.EqOp(t, 60, after.Done.Offset)
	must.EqOp(t, 0, after.Cut)

	other := saved
	other.Inode++
	must.NoError(t, other.settle(whole))
	must.Eq(t, position{Inode: inode}, other)

	must.NoError(t, os.WriteFile(path, text[:10], 0o600))
	truncated := saved
	must.NoError(t, truncated.settle(whole))
	must.Eq(t, position{Inode: inode}, truncated)
	must.NoError(t, whole.Close())
}

func TestPositionSurvives(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "position"))
	must.NoError(t, err)
	_, err = loadPosition(f)
	must.ErrorIs(t, err, errNoPosition)
	p := position{Inode: 1, Read: mark{2, stderrPartial, cursor{1}}, Sent: [streams]uint32{3, 4}, Done: mark{5, stdoutFull, cursor{2}}, Cut: 6, Window: 7, Dropped: 8, Told: 9, Gap: true, MidLine: [streams]bool{false, true}}
	must.NoError(t, p.saveTo(f))
	got, err := loadPosition(f)
	must.NoError(t, err)
	must.Eq(t, p, got)
	_, err = f.WriteAt([]byte{1}, 20)
	must.NoError(t, err)
	_, err = loadPosition(f)
	must.ErrorIs(t, err, errNoPosition)
	must.NoError(t, f.Close())
}
