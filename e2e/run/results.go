package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// event is a line of what `go tool test2json` prints.
type event struct {
	Action string
	Test   string
	Output string
}

// keptLines are those of a test that are shown again at the end, when it fails.
const keptLines = 40

// results are what the tests of one machine have said so far.
type results struct {
	out   io.Writer         // what they print, as they print it
	fails func(test string) // is told of each that fails

	mu     sync.Mutex
	now    string              // the test that runs
	states map[string]string   // of tests and subtests: run, pass, fail or skip
	order  []string            // of those that have ended
	said   map[string][]string // the last lines of each, without those of go test itself; "": of none, such as the books'
}

func newResults(out io.Writer, fails func(test string)) *results {
	return &results{out: out, fails: fails, states: map[string]string{}, said: map[string][]string{}}
}

// read takes events to their end.
func (r *results) read(from io.Reader) error {
	decoder := json.NewDecoder(bufio.NewReader(from))
	for decoder.More() {
		var e event
		if err := decoder.Decode(&e); err != nil {
			return fmt.Errorf("reading what the tests say: %w", err)
		}
		if err := r.take(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *results) take(e event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Action {
	case "output":
		if _, err := io.WriteString(r.out, e.Output); err != nil {
			return err
		}
		line := strings.TrimRight(e.Output, "\n")
		if strings.HasPrefix(line, "=== ") || strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			return nil
		}
		said := append(r.said[e.Test], line)
		r.said[e.Test] = said[max(0, len(said)-keptLines):]
	case "run":
		r.now = e.Test
		r.states[e.Test] = e.Action
	case "pass", "fail", "skip":
		if e.Test != "" {
			r.states[e.Test] = e.Action
			r.order = append(r.order, e.Test)
		}
		if e.Test != "" && e.Action == "fail" {
			r.fails(e.Test)
		}
	}
	return nil
}

// running is the test that runs, or the last one.
func (r *results) running() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// failed are the tests and subtests that have failed, the first one first.
func (r *results) failed() []string { return r.ended("fail") }

// ended are the tests and subtests that have ended so.
func (r *results) ended(state string) []string {
	var names []string
	for _, name := range r.order {
		if r.states[name] == state {
			names = append(names, name)
		}
	}
	return names
}

// count is how many tests, not subtests, have ended so.
func (r *results) count(state string) int {
	n := 0
	for _, name := range r.ended(state) {
		if !strings.Contains(name, "/") {
			n++
		}
	}
	return n
}

// missing are the entries of the plan that have not run.
func (r *results) missing(entries []string) []string {
	var names []string
	for _, entry := range entries {
		if _, ran := r.states[entry]; !ran {
			names = append(names, entry)
		}
	}
	return names
}

// tell says of each test that has failed what it has said itself: what it expected and what it saw. Then comes what was
// said after the tests.
func (r *results) tell(out io.Writer) error {
	for _, name := range r.failed() {
		if len(r.said[name]) == 0 {
			continue // a subtest of it has failed
		}
		if _, err := fmt.Fprintf(out, "--- FAIL: %s\n%s\n", name, strings.Join(r.said[name], "\n")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out, strings.Join(r.said[""], "\n"))
	return err
}

// seconds is a duration as it is printed everywhere here.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
