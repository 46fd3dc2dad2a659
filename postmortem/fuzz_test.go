package postmortem

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// longestText is what Clean leaves of a text, bytes.
const longestText = maxText + len("…")

// Whatever a task prints and a podman says, what is shown of it are short, printable lines.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("starting\n\x1b[31mout of memory\x1b[0m\r\n\n\tat x\n"), "OCI runtime error: x\ny", 137)
	f.Add([]byte("\x1b\x1b[[31m\x9b31m\u202eabc\n\xff\xfe"), "", 1)
	f.Add([]byte("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n"), "\x1b]0;x\a", 0)
	f.Fuzz(func(t *testing.T, stderr []byte, podman string, code int) {
		fuzz.Cheap(t, len(stderr)+len(podman), 256, func() {
			r := &Record{Stderr: Lines(stderr), PodmanError: Clean(podman), Exit: &Status{Code: code}, EndedAt: time.Unix(1, 0)}
			must.LessEq(t, maxLines, len(r.Stderr))
			for _, line := range append(r.Stderr, r.PodmanError) {
				fuzz.Line(t, line, longestText)
				if len(line) <= maxText {
					must.EqOp(t, line, Clean(line))
				}
			}
			r.Judge()
			fuzz.Line(t, r.Summary, 4*saidText)
			_, err := json.Marshal(r)
			must.NoError(t, err)
		})
	})
}
