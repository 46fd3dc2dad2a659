package main

import (
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

// said is what test2json makes of a run in which a subtest fails.
const said = `{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Test":"TestA/x"}
{"Action":"output","Test":"TestA/x","Output":"=== RUN   TestA/x\n"}
{"Action":"output","Test":"TestA/x","Output":"    a_test.go:7: expected equality\n"}
{"Action":"output","Test":"TestA/x","Output":"        - 1 + 2\n"}
{"Action":"output","Test":"TestA/x","Output":"--- FAIL: TestA/x (1.00s)\n"}
{"Action":"fail","Test":"TestA/x","Elapsed":1}
{"Action":"output","Test":"TestA","Output":"--- FAIL: TestA (1.00s)\n"}
{"Action":"fail","Test":"TestA","Elapsed":1}
{"Action":"run","Test":"TestB"}
{"Action":"output","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"pass","Test":"TestB","Elapsed":2}
{"Action":"output","Output":"FAIL\n"}
{"Action":"output","Output":"books: containers: one too many\n"}
{"Action":"fail","Elapsed":3}
`

func TestResults(t *testing.T) {
	var out, told strings.Builder
	var fails []string
	r := newResults(&out, func(test string) { fails = append(fails, test) })
	must.NoError(t, r.read(strings.NewReader(said)))
	must.StrHasPrefix(t, "=== RUN   TestA\n=== RUN   TestA/x\n    a_test.go:7", out.String())
	must.Eq(t, []string{"TestA/x", "TestA"}, r.failed())
	must.Eq(t, r.failed(), fails)
	must.Eq(t, 1, r.count("pass"))
	must.Eq(t, 1, r.count("fail"))
	must.Eq(t, "TestB", r.running())
	must.Eq(t, []string{"TestA/z"}, r.missing([]string{"TestA", "TestA/x", "TestA/z"}))
	must.NoError(t, r.tell(&told))
	must.Eq(t, "--- FAIL: TestA/x\n    a_test.go:7: expected equality\n        - 1 + 2\nFAIL\nbooks: containers: one too many\n", told.String())
}

func TestResultsOfNonsense(t *testing.T) {
	must.Error(t, newResults(&strings.Builder{}, nil).read(strings.NewReader("not JSON")))
}

func TestLabLines(t *testing.T) {
	var out strings.Builder
	var heard []string
	said := &labLines{to: &out, hears: func(message string) { heard = append(heard, message) }}
	for _, part := range []string{"lab: the machine's logs are in x\nnomad: hello\nlab [ 1.0s] lab: done\nlab: ti", "mes: start 1.0 s\n"} {
		_, err := said.Write([]byte(part))
		must.NoError(t, err)
	}
	must.Eq(t, "start 1.0 s", said.times)
	must.Eq(t, []string{"lab: the machine's logs are in x"}, said.lines)
	must.Eq(t, said.lines, heard)
	must.StrContains(t, out.String(), "nomad: hello\n")
}
