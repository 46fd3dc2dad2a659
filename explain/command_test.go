package explain

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/postmortem"
)

func recordOf(task string, code int) *postmortem.Record {
	return &postmortem.Record{AllocID: "aaaa-1", Task: task, EndedAt: time.Now(), Exit: &postmortem.Status{Code: code}, Stderr: []string{}}
}

func TestMain_Arguments(t *testing.T) {
	state := t.TempDir()
	agent := filepath.Join(t.TempDir(), "agent.hcl")
	must.NoError(t, os.WriteFile(agent, fmt.Appendf(nil, "plugin \"nomad-driver-podman\" {\n config {\n state_dir = %q\n }\n}\n", state), 0o600))
	web, db := recordOf("web", 1), recordOf("db", 2)
	for _, r := range []*postmortem.Record{web, db} {
		r.Judge()
		must.NoError(t, postmortem.In(state).Put(r))
	}
	for name, tc := range map[string]struct {
		args  []string
		says  []string
		usage bool
		fails string
	}{
		"text":          {args: []string{"aaaa"}, says: []string{`Task "web" of allocation aaaa-1: It ended with exit code 1`, `Task "db"`}},
		"options after": {args: []string{"aaaa-1", "-task", "db", "-json"}, says: []string{`"summary": "It ended with exit code 2"`}},
		"no allocation": {usage: true, fails: "name one allocation"},
		"two":           {args: []string{"aaaa-1", "bbbb-1"}, usage: true, fails: "name one allocation"},
		"too short":     {args: []string{"aaa"}, usage: true, fails: "at least 4 characters"},
		"wrong option":  {args: []string{"aaaa-1", "-x"}, usage: true, fails: "-x"},
		"not there":     {args: []string{"bbbb"}, fails: `has no record of allocation "bbbb"`},
		"no such task":  {args: []string{"aaaa", "-task", "x"}, fails: `has no record of task "x" of allocation "aaaa"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := Main(append([]string{"-config", agent}, tc.args...), &out)
			if tc.fails != "" {
				must.ErrorContains(t, err, tc.fails)
				must.Eq(t, tc.usage, errors.Is(err, cli.ErrUsage))
				must.Eq(t, "", out.String())
				return
			}
			must.NoError(t, err)
			for _, text := range tc.says {
				must.StrContains(t, out.String(), text)
			}
			must.Eq(t, len(tc.args) == 1, strings.Contains(out.String(), "web"))
		})
	}
}
