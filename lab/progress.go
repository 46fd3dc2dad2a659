package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// progress tells the person who waits what is being done and what it waits for: a
// line when a step begins and ends, and every few seconds one for each that goes on.
type progress struct {
	out    io.Writer
	start  time.Time
	ticker *time.Ticker
	ended  chan struct{}

	mu    sync.Mutex
	steps []*step
}

// reportEvery is how often a step that goes on says so.
const reportEvery = 10 * time.Second

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, start: time.Now(), ticker: time.NewTicker(reportEvery), ended: make(chan struct{})}
	go func() {
		for {
			select {
			case <-p.ticker.C:
				p.report()
			case <-p.ended:
				return
			}
		}
	}()
	return p
}

func (p *progress) close() {
	p.ticker.Stop()
	close(p.ended)
}

// line prints one line with the seconds since the start. p.mu is held.
func (p *progress) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "lab [%5.1fs] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

func (p *progress) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.steps {
		if s.announced {
			p.line("%s: %.0fs, %s", s.name, time.Since(s.start).Seconds(), s.last())
		}
	}
}

// step is one thing that takes time. What tools print is written to it: the last
// line is shown while it goes on, the last lines when it fails.
type step struct {
	p         *progress
	name      string
	start     time.Time
	announced bool
	lines     []string
	rest      []byte
}

// keptLines are shown when a step fails.
const keptLines = 40

// step begins a step. It is shown from its first announcement on.
func (p *progress) step(name string) *step {
	s := &step{p: p, name: name, start: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, s)
	return s
}

// begins shows the step: it was not to be had from the cache.
func (s *step) begins(what string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.announced = true
	s.p.line("%s: %s", s.name, what)
}

// says notes what the step is doing, to be shown when it takes long.
func (s *step) says(what string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.announced = true
	s.add(what)
}

// Write takes a tool's output.
func (s *step) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.rest = append(s.rest, b...)
	for {
		i := bytes.IndexAny(s.rest, "\r\n")
		if i < 0 {
			return len(b), nil
		}
		s.add(string(s.rest[:i]))
		s.rest = s.rest[i+1:]
	}
}

func (s *step) add(line string) {
	if line == "" || line == s.last() {
		return
	}
	s.lines = append(s.lines, line)
	if len(s.lines) > keptLines {
		s.lines = s.lines[1:]
	}
}

func (s *step) last() string {
	if len(s.lines) == 0 {
		return "no output yet"
	}
	line := s.lines[len(s.lines)-1]
	if len(line) > 120 {
		line = line[:120] + "…"
	}
	return line
}

// ends finishes the step, and passes its error on with what was printed last.
func (s *step) ends(err error) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for i := range s.p.steps {
		if s.p.steps[i] == s {
			s.p.steps = append(s.p.steps[:i], s.p.steps[i+1:]...)
			break
		}
	}
	if err != nil {
		for _, line := range s.lines {
			s.p.line("%s | %s", s.name, line)
		}
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if s.announced {
		s.p.line("%s: done in %.1fs", s.name, time.Since(s.start).Seconds())
	}
	return nil
}
