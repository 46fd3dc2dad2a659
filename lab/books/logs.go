package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Where the log process and Nomad's allocations are.
const (
	logSocket = "/run/nomad-podman/logs/control.sock"
	logDir    = "/var/lib/nomad-driver-podman/logs"
	allocDir  = "/opt/nomad/data/alloc"
)

// follow is one log that the log process follows.
type follow struct {
	Task                 string // ALLOCATION/TASK/RUN
	File, Stdout, Stderr string
	Container            string // instead of File, when the log is in the journal
	Error                string
}

func (f follow) task() task {
	alloc, rest, _ := strings.Cut(f.Task, "/")
	// A task's name may have a slash.
	return task{alloc, rest[:max(strings.LastIndex(rest, "/"), 0)]}
}

// takeFollows asks the log process. Without one nothing is followed.
func (m *machine) takeFollows(ctx context.Context, l *look) error {
	if _, runs := l.logProcess(); !runs {
		return nil
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.host.path(logSocket))
		},
	}
	return get(ctx, &http.Client{Transport: transport}, "http://logs/tasks", &l.follows)
}

func (l *look) logProcess() (process, bool) {
	for _, p := range l.processes {
		if p.has("logs", logSocket) {
			return p, true
		}
	}
	return process{}, false
}

// followedLogs finds tasks that the log process follows though they do not run, or more than once. Those that it should
// follow and does not are found by their FIFOs.
func followedLogs(l *look) ([]string, error) {
	var left []string
	count := map[task]int{}
	for _, f := range l.follows {
		count[f.task()]++
		if !l.isRunning(f.task()) {
			left = append(left, fmt.Sprintf("%s%s is followed, but %s does not run", f.File, f.Container, f.task()))
		}
		if f.Error != "" {
			left = append(left, fmt.Sprintf("%s%s of %s is not followed any more: %s", f.File, f.Container, f.task(), f.Error))
		}
	}
	for t, times := range count {
		if times > 1 {
			left = append(left, fmt.Sprintf("%s is followed %d times", t, times))
		}
	}
	return left, nil
}

// journalReaders finds children of the log process that read no running task's log from the journal.
func journalReaders(l *look) ([]string, error) {
	keeper, runs := l.logProcess()
	if !runs {
		return nil, nil
	}
	needed := map[string]bool{}
	for _, f := range l.follows {
		if f.Container != "" && l.isRunning(f.task()) {
			needed["CONTAINER_ID_FULL="+f.Container] = true
		}
	}
	var left []string
	for _, p := range l.processes {
		if p.parent == keeper.pid && !slices.ContainsFunc(p.args, func(arg string) bool { return needed[arg] }) {
			left = append(left, fmt.Sprintf("%s is a child of the log process: %s", p, strings.Join(p.args, " ")))
		}
	}
	return left, nil
}

// logDescriptors finds files that the log process, or systemd for it, holds open for tasks that do not run.
func logDescriptors(l *look) ([]string, error) {
	keeper, runs := l.logProcess()
	needed := map[string]bool{}
	for _, f := range l.follows {
		if l.isRunning(f.task()) {
			needed[f.File], needed[f.Stdout], needed[f.Stderr] = true, true, true
		}
	}
	var left []string
	for _, p := range l.processes {
		if p.pid != 1 && (!runs || p.pid != keeper.pid) {
			continue
		}
		held, err := l.host.descriptors(p.pid)
		if err != nil {
			return left, err
		}
		for _, d := range held {
			// logState looks after the state directory: what it does not miss may be open, unless it was deleted.
			own := filepath.Dir(d.target) == logDir && !strings.HasSuffix(d.target, deleted)
			// Pidfds of its children stand and fall with them; see journalReaders.
			if (isLogFile(d.target) || p.pid != 1 && !isHarmless(d.target) && !isPidfd(d.target)) && !own && !needed[d.target] {
				left = append(left, fmt.Sprintf("descriptor %s of %s is open on %s", d.number, p, d.target))
			}
		}
	}
	return left, nil
}

// deleted is what proc_pid_fd(5) adds to the name of a file that has none any more.
const deleted = " (deleted)"

// isLogFile tells whether a file is a container's log or one of Nomad's FIFOs.
func isLogFile(path string) bool {
	return strings.Contains(path, "/overlay-containers/") || strings.HasPrefix(path, allocDir+"/")
}

// logState finds files of the log process' state directory that are not of a running task.
func logState(l *look) ([]string, error) {
	entries, err := os.ReadDir(l.host.path(logDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known := map[string]bool{"lock": true, "nomad-driver-podman": true}
	var left []string
	for _, entry := range entries {
		path := filepath.Join(logDir, entry.Name())
		name, isRequest := strings.CutSuffix(entry.Name(), ".json")
		if !isRequest {
			continue
		}
		known[entry.Name()], known[name+".position"] = true, true
		text, err := l.host.read(path)
		if isGone(err) {
			continue
		}
		if err != nil {
			return left, err
		}
		var f follow
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			return left, fmt.Errorf("%s: %w", path, err)
		}
		if !l.isRunning(f.task()) {
			left = append(left, fmt.Sprintf("%s is kept, but %s does not run", path, f.task()))
		}
	}
	for _, entry := range entries {
		if !known[entry.Name()] {
			left = append(left, fmt.Sprintf("%s is of no task", filepath.Join(logDir, entry.Name())))
		}
	}
	return left, nil
}

// unwrittenFIFOs finds Nomad's FIFOs of running tasks that the log process does not hold for writing. A reader of such
// a one has seen its end and is gone for good.
func unwrittenFIFOs(l *look) ([]string, error) {
	fifos, err := l.host.glob(allocDir + "/*/alloc/logs/.*.fifo")
	if err != nil {
		return nil, err
	}
	writes := map[string]bool{}
	if p, runs := l.logProcess(); runs {
		held, err := l.host.descriptors(p.pid)
		if err != nil {
			return nil, err
		}
		for _, d := range held {
			if isWritable(l.host.descriptorInfo(p.pid, d, "flags")) {
				writes[d.target] = true
			}
		}
	}
	var left []string
	for _, path := range fifos {
		if t := fifoTask(path); l.isRunning(t) && !writes[path] {
			left = append(left, fmt.Sprintf("%s of %s is not written by the log process", path, t))
		}
	}
	return left, nil
}

// fifoTask is the task of ALLOCATION/alloc/logs/.TASK.stdout.fifo.
func fifoTask(path string) task {
	alloc, _, _ := strings.Cut(strings.TrimPrefix(path, allocDir+"/"), "/")
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "."), ".fifo")
	return task{alloc, strings.TrimSuffix(name, filepath.Ext(name))}
}

// isWritable reads the flags of proc_pid_fdinfo(5), octal as of open(2).
func isWritable(flags string) bool {
	value, err := strconv.ParseUint(flags, 8, 32)
	return err == nil && value&uint64(os.O_WRONLY|os.O_RDWR) != 0
}
