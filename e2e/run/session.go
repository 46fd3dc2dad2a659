package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// reportEvery is how often a person who waits hears which tests run.
const reportEvery = time.Minute

// session is one call of this program: machines, some of them side by side.
type session struct {
	set    *settings
	built  *binaries
	logs   string // directory of what the tests print
	begun  time.Time
	stream bool // one machine only: its tests are shown as they run

	mu    sync.Mutex
	runs  []*machineRun // those that have begun
	over  chan struct{} // closed at the end of the session
	ended sync.WaitGroup
}

// machineRun is one start of a machine and the tests in it.
type machineRun struct {
	*selection
	name    string
	log     string // file of what the tests and the lab print
	results *results
	lab     labLines
	begun   time.Time
	took    time.Duration // 0 while it goes on
	err     error         // what has failed, besides tests
}

func newSession(set *settings, built *binaries) *session {
	return &session{
		set: set, built: built, logs: filepath.Join(set.root, "build/e2e-logs"), begun: time.Now(), over: make(chan struct{}),
	}
}

func (s *session) close() {
	close(s.over)
	s.ended.Wait()
}

// run runs the selected tests and tells whether all have passed. The plan's order is kept: long ones first, so that no
// processor waits at the end.
func (s *session) run(ctx context.Context, selected []*selection) (bool, error) {
	if err := os.MkdirAll(s.logs, 0o755); err != nil { //nolint:gosec // beside what make builds
		return false, err
	}
	s.stream = len(selected)*s.set.count == 1
	if !s.stream {
		s.say("%d machines, %d side by side; what their tests print is in build/e2e-logs", len(selected)*s.set.count, s.set.jobs)
		s.ended.Go(s.report)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.set.jobs)
	for round := range s.set.count {
		for _, one := range selected {
			name := one.Name
			if s.set.count > 1 {
				name = fmt.Sprintf("%s-%d", one.Name, round+1)
			}
			group.Go(func() error { return s.machine(groupCtx, one, name) })
		}
	}
	err := group.Wait()
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return s.summarize(), err
}

// machine runs the tests of one machine. An error is one of this program: tests that fail are in the results.
func (s *session) machine(ctx context.Context, selected *selection, name string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m := &machineRun{selection: selected, name: name, log: filepath.Join(s.logs, name+".log"), begun: time.Now()}
	log, err := os.Create(m.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	out := &lockedWriter{to: log}
	if s.stream {
		out.to = io.MultiWriter(log, os.Stdout)
	}
	m.lab = labLines{to: out, hears: func(message string) { s.say("%s: %s", name, message) }}
	m.results = newResults(out, func(test string) { s.say("%s: FAILED %s", name, test) })
	s.mu.Lock()
	s.runs = append(s.runs, m)
	s.mu.Unlock()
	s.say("%s begins: %s", name, strings.Join(m.tests, " "))

	m.err = s.lab(ctx, m)
	if missing := m.results.missing(m.entries); m.err == nil && len(missing) > 0 {
		m.err = fmt.Errorf("machines.hcl names tests that did not run: %v", missing)
	}
	s.mu.Lock()
	m.took = time.Since(m.begun)
	s.mu.Unlock()
	s.say("%s", m.line())
	return nil
}

// lab runs the tests' binary in a lab, and reads what they say by way of test2json.
func (s *session) lab(ctx context.Context, m *machineRun) error {
	args := []string{"exec", "--books"}
	if s.set.keep {
		args = append(args, "--keep")
	}
	args = append(args, s.built.tests[m.dir], "-test.v=test2json", "-test.timeout", s.set.timeout.String(), "-test.run", m.run)
	if m.skip != "" {
		args = append(args, "-test.skip", m.skip)
	}
	lab := command(ctx, m.dir, filepath.Join(s.set.root, "build/lab"), args...)
	lab.Env = append(lab.Env, "LAB_PLUGIN="+s.built.plugins[m.Plugin], processors(m.Processors))
	lab.Stderr = &m.lab

	converter := exec.Command("go", "tool", "test2json") // it ends with its input
	converter.Stderr = os.Stderr
	said, err := converter.StdinPipe()
	if err != nil {
		return err
	}
	events, err := converter.StdoutPipe()
	if err != nil {
		return err
	}
	lab.Stdout = said
	if err := converter.Start(); err != nil {
		return err
	}
	read := make(chan error, 1)
	go func() { read <- m.results.read(events) }()
	err = lab.Run()
	return errors.Join(err, said.Close(), <-read, converter.Wait())
}

// line is the result of a machine, as the table at the end has it.
func (m *machineRun) line() string {
	result := "ok"
	if !m.passed() {
		result = "FAILED"
	}
	return fmt.Sprintf("%-8s %5s  %-14s %s", result, seconds(m.took), m.name, m.lab.times)
}

func (m *machineRun) passed() bool { return m.err == nil && len(m.results.failed()) == 0 }

// say prints a line about the session's progress.
func (s *session) say(format string, args ...any) {
	fmt.Printf("e2e [%4.0fs] %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// report says every now and then which tests run.
func (s *session) report() {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.over:
			return
		case <-ticker.C:
		}
		var now []string
		s.mu.Lock()
		for _, m := range s.runs {
			if m.took == 0 {
				now = append(now, fmt.Sprintf("%s: %s", m.name, m.results.running()))
			}
		}
		s.mu.Unlock()
		if len(now) > 0 {
			s.say("%s", strings.Join(now, "; "))
		}
	}
}

// summarize prints what has failed and why, then a line of each machine, and tells whether all have passed.
func (s *session) summarize() bool {
	slices.SortStableFunc(s.runs, func(a, b *machineRun) int { return int(b.took - a.took) })
	passed, failed, all := 0, 0, true
	for _, m := range s.runs {
		passed, failed = passed+m.results.count("pass"), failed+m.results.count("fail")
		if m.passed() {
			continue
		}
		all = false
		fmt.Printf("\n=== what failed on machine %s; all that its tests printed: %s\n", m.name, m.log)
		_ = m.results.tell(os.Stdout)
		fmt.Println(strings.Join(m.lab.lines, "\n"))
		if m.err != nil {
			fmt.Println(m.err)
		}
	}
	fmt.Println()
	for _, m := range s.runs {
		fmt.Println(m.line())
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return all
}

// lockedWriter lets the tests' output and the lab's go to one file.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// labLines passes on what the lab's program says, and keeps its messages.
type labLines struct {
	to    io.Writer
	hears func(message string) // is told of each

	rest  []byte
	lines []string // such as where the machine's logs are
	times string   // where the time went
}

// How the lab's messages begin, and the one that tells where the time went (lab/run.go).
const (
	labMessage = "lab: "
	labTimes   = labMessage + "times: "
)

func (l *labLines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, whole := bytes.Cut(l.rest, []byte("\n"))
		if !whole {
			return l.to.Write(b)
		}
		l.rest = rest
		if times, found := strings.CutPrefix(string(line), labTimes); found {
			l.times = times
		} else if strings.HasPrefix(string(line), labMessage) {
			l.lines = append(l.lines, string(line))
			l.hears(string(line))
		}
	}
}
