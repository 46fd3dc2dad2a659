package preflight

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

const schemaFile = "../docs/preflight.schema.json"

var examples = []finding.Finding{
	finding.Good("kernel", finding.Host, "Linux 6.12.48"),
	{
		ID: "cni", Subject: finding.Host, Status: finding.Warn, Seen: "no bridge in /opt/cni/bin",
		Why:    `groups with network { mode = "bridge" } and Connect cannot run`,
		Remedy: finding.Remedy{Advice: `set client { cni_path = "/usr/lib/cni" } in the agent's configuration`},
	},
	finding.Good("account", "team-a", "UID 2001"),
	{
		ID: "subordinate-ids", Subject: "team-a", Status: finding.Fail, Seen: "0 subordinate UIDs and 0 subordinate GIDs", Cause: errors.New("x"),
		Why: "images use IDs up to 65535",
		Remedy: finding.Remedy{
			Commands: []string{"usermod --add-subuids 524288-589823 team-a", "usermod --add-subgids 524288-589823 team-a"},
			Advice:   "no other user may have them", Safe: true,
		},
	},
	finding.Skip("run-test", "team-a", "other findings fail"),
	{ID: "socket", Subject: "lost", Status: finding.Fail, Seen: "two\nlines \x1b[31m", Why: "tasks on this socket fail"},
	finding.Good("api", "team-a", "podman 5.4.2"),
}

// Both forms are what others read: run this test with -update after a change that is meant.
func TestPrint(t *testing.T) {
	text := func(colour bool) func(io.Writer, []finding.Finding) error {
		return func(out io.Writer, findings []finding.Finding) error { return PrintText(out, findings, colour) }
	}
	for file, form := range map[string]func(io.Writer, []finding.Finding) error{
		"preflight.txt": text(false), "colour.txt": text(true), "preflight.json": PrintJSON,
	} {
		t.Run(file, func(t *testing.T) {
			var out bytes.Buffer
			must.NoError(t, form(&out, examples))
			golden := filepath.Join("testdata", file)
			if *update {
				must.NoError(t, os.WriteFile(golden, out.Bytes(), 0o600))
			}
			want, err := os.ReadFile(golden)
			must.NoError(t, err)
			must.Eq(t, string(want), out.String(), must.Sprint("run: go test ./preflight -update"))
		})
	}
}

// validate holds a JSON text against the schema that is documented.
func validate(t *testing.T, text []byte) error {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	must.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	must.NoError(t, err)
	return schema.Validate(value)
}

func TestJSONKeepsItsSchema(t *testing.T) {
	for _, findings := range [][]finding.Finding{examples, nil} {
		var out bytes.Buffer
		must.NoError(t, PrintJSON(&out, findings))
		must.NoError(t, validate(t, out.Bytes()))
	}
	for _, wrong := range []string{
		`{}`,
		`{"ready": true}`,
		`{"ready": true, "findings": null}`,
		`{"ready": true, "findings": [], "more": 1}`,
		`{"ready": true, "findings": [{"id": "a", "subject": "b", "status": "good", "seen": "", "why": "", "remedy": null}]}`,
		`{"ready": true, "findings": [{"id": "a", "subject": "b", "status": "ok", "seen": "", "why": ""}]}`,
		`{"ready": true, "findings": [{"id": "a", "subject": "b", "status": "ok", "seen": "", "why": "", "remedy": {"commands": null, "advice": "", "safe": true}}]}`,
	} {
		must.Error(t, validate(t, []byte(wrong)), must.Sprint(wrong))
	}
}

func TestSummary(t *testing.T) {
	warn, fail := finding.Finding{Status: finding.Warn}, finding.Finding{Status: finding.Fail}
	for want, findings := range map[string][]finding.Finding{
		"ready":                           {finding.Good("a", "b", ""), finding.Skip("a", "b", "")},
		"ready: 1 warning":                {warn},
		"not ready: 2 failed":             {fail, fail},
		"not ready: 1 failed, 2 warnings": {warn, fail, warn},
	} {
		must.Eq(t, want, summary(findings))
	}
}

func TestColoured(t *testing.T) {
	must.False(t, coloured(&bytes.Buffer{}))
	null, err := os.Open(os.DevNull)
	must.NoError(t, err)
	defer null.Close()
	must.False(t, coloured(null))
}
