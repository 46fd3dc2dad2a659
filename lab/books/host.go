package books

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// host is the root directory of the machine. Paths that its methods take and return are the machine's.
type host string

func (h host) path(path string) string { return filepath.Join(string(h), path) }

func (h host) read(path string) (string, error) {
	text, err := os.ReadFile(h.path(path))
	return string(text), err
}

func (h host) exists(path string) bool {
	_, err := os.Lstat(h.path(path))
	return err == nil
}

// glob is filepath.Glob.
func (h host) glob(pattern string) ([]string, error) {
	paths, err := filepath.Glob(h.path(pattern))
	for i, path := range paths {
		below, err := filepath.Rel(string(h), path)
		if err != nil {
			return nil, err
		}
		paths[i] = "/" + below
	}
	return paths, err
}

// isGone tells of errors about something that has ended while it was looked at (proc(5): ESRCH from open files).
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || err != nil && strings.HasSuffix(err.Error(), "no such process")
}

// process is one of the machine.
type process struct {
	pid, parent int
	name        string   // of its command line, or in brackets the kernel's
	args        []string // its command line
}

func (p process) String() string { return fmt.Sprintf("process %d (%s)", p.pid, p.name) }

// has tells whether the command line has all these words.
func (p process) has(words ...string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(p.args, word) })
}

// takeProcesses reads proc_pid_stat(5) and proc_pid_cmdline(5) of all processes.
func (m *machine) takeProcesses(_ context.Context, l *look) error {
	entries, err := os.ReadDir(l.host.path("/proc"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p, err := l.host.process(pid)
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		l.processes = append(l.processes, p)
	}
	slices.SortFunc(l.processes, func(a, b process) int { return a.pid - b.pid })
	return nil
}

func (h host) process(pid int) (process, error) {
	stat, err := h.read(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	line, err := h.read(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return process{}, err
	}
	p, err := parseProcess(stat, line)
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return p, nil
}

// parseProcess takes the name in parentheses, which may contain anything, from its ends.
func parseProcess(stat, cmdline string) (p process, err error) {
	open, end := strings.Index(stat, "("), strings.LastIndex(stat, ")")
	if open < 0 || end < open {
		return p, fmt.Errorf("its stat is %q", stat)
	}
	if _, err := fmt.Sscan(stat[:open], &p.pid); err != nil {
		return p, fmt.Errorf("its stat is %q: %w", stat, err)
	}
	var state string
	if _, err := fmt.Sscan(stat[end+1:], &state, &p.parent); err != nil {
		return p, fmt.Errorf("its stat is %q: %w", stat, err)
	}
	p.name = "[" + stat[open+1:end] + "]"
	if cmdline != "" {
		p.args = strings.Split(strings.TrimSuffix(cmdline, "\x00"), "\x00")
		p.name = filepath.Base(p.args[0])
	}
	return p, nil
}

// namespace identifies a namespace of a process ("net", "mnt"), "" when the process has ended.
func (h host) namespace(pid int, kind string) string {
	id, err := os.Readlink(h.path(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)))
	if err != nil {
		return ""
	}
	return id
}

// descriptor is one that a process holds.
type descriptor struct {
	number string
	target string // what it is open on, as proc_pid_fd(5) tells
}

func (h host) descriptors(pid int) ([]descriptor, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(h.path(dir))
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var held []descriptor
	for _, entry := range entries {
		target, err := os.Readlink(h.path(filepath.Join(dir, entry.Name())))
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		held = append(held, descriptor{entry.Name(), target})
	}
	return held, nil
}

// descriptorInfo is a field of proc_pid_fdinfo(5), "" when the descriptor is closed or has no such field.
func (h host) descriptorInfo(pid int, d descriptor, field string) string {
	text, err := h.read(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, d.number))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
