package main

import (
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

func TestParsePorts(t *testing.T) {
	const table = `Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   31       127.0.0.1 45955       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  15       127.0.0.1 40001       10.0.2.15  4646     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1 45955       10.0.2.15    22     0     0
  UDP[236 sec]       22       10.0.2.15 35061        10.0.2.3    53     0     0
`
	ports, err := parsePorts(table)
	must.NoError(t, err)
	must.Eq(t, map[int]int{22: 45955, 4646: 40001}, ports)

	_, err = parsePorts("nothing")
	must.Error(t, err)
	_, err = parsePorts("  TCP[HOST_FORWARD]  14       127.0.0.1 none       10.0.2.15    22     0     0")
	must.Error(t, err)
}

// A restored machine must be the booted one, for the guest.
func TestArgsDifferOnlyOutside(t *testing.T) {
	boot := machine{base: "/base", dir: "/a"}.args()
	restored := machine{base: "/base", dir: "/b", restore: true, http: true}.args()
	must.Eq(t, []string{"-incoming", "defer"}, restored[len(boot):])
	for i, arg := range boot {
		if arg != restored[i] {
			outside := strings.NewReplacer("/a/", "/b/", "share=on", "share=off", "snapshot=off", "snapshot=on",
				"-:22", "-:22,hostfwd=tcp:127.0.0.1:0-:4646")
			must.Eq(t, outside.Replace(arg), restored[i])
		}
	}
}

func TestQuote(t *testing.T) {
	for _, word := range []string{"", "a b", "it's", `"$HOME" \ * ; true`, "two\nlines"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output() //nolint:gosec // the point
		must.NoError(t, err)
		must.Eq(t, word, string(out))
	}
}

// fakeQEMU answers each command with the lines for it.
func fakeQEMU(t *testing.T, answers map[string][]string) *qmp {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	go func() {
		defer func() { _ = theirs.Close() }()
		if _, err := theirs.Write([]byte(`{"QMP": {"version": {}, "capabilities": []}}` + "\n")); err != nil {
			return
		}
		for in := json.NewDecoder(theirs); ; {
			var request struct{ Execute string }
			if in.Decode(&request) != nil {
				return
			}
			lines := answers[request.Execute]
			if lines == nil {
				lines = []string{`{"return": {}}`}
			}
			answer := lines[0]
			if len(lines) > 1 {
				answers[request.Execute] = lines[1:]
			}
			if _, err := theirs.Write([]byte(answer + "\n")); err != nil {
				return
			}
		}
	}()
	q, err := newQMP(t.Context(), ours)
	must.NoError(t, err)
	return q
}

func TestQMP(t *testing.T) {
	q := fakeQEMU(t, map[string][]string{
		"human-monitor-command": {`{"event": "STOP", "timestamp": {}} {"return": "text"}`},
		"cont":                  {`{"error": {"class": "GenericError", "desc": "cannot"}}`},
	})
	var text string
	must.NoError(t, q.execute(t.Context(), "human-monitor-command", nil, &text))
	must.Eq(t, "text", text)
	must.ErrorContains(t, q.execute(t.Context(), "cont", nil, nil), "cannot")
	must.NoError(t, q.execute(t.Context(), "stop", nil, nil))
}

func TestQMPMigration(t *testing.T) {
	q := fakeQEMU(t, map[string][]string{"query-migrate": {
		`{"return": {}}`, `{"return": {"status": "active"}}`, `{"return": {"status": "completed"}}`,
	}})
	must.NoError(t, q.awaitMigration(t.Context()))

	q = fakeQEMU(t, map[string][]string{"query-migrate": {`{"return": {"status": "failed", "error-desc": "no such file"}}`}})
	must.ErrorContains(t, q.awaitMigration(t.Context()), "no such file")
}
