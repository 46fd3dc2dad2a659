package cgroupv2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Processes returns the PIDs of the processes in a cgroup, without those of its descendants and
// without zombies (cgroup-v2.rst, cgroup.procs). The error is ErrGone when it does not exist.
func (h Hierarchy) Processes(path string) ([]int, error) {
	dir, err := h.openDir(path)
	if err != nil {
		return nil, err
	}
	defer closeDir(dir)
	file, err := openIn(dir, "cgroup.procs")
	if err != nil {
		return nil, cgroupError(path, err)
	}
	pids, err := parsePIDs(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, cgroupError(path, err)
	}
	return pids, nil
}

func parsePIDs(file io.Reader) ([]int, error) {
	var pids []int
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		pid, err := strconv.ParseUint(lines.Text(), 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%.40q is no PID", lines.Text())
		}
		pids = append(pids, int(pid)) //nolint:gosec // 31 bits
	}
	return pids, lines.Err()
}

// killInterval is how often Kill looks for what is left.
const killInterval = 20 * time.Millisecond

// Kill sends SIGKILL to those processes of a cgroup that belong says so of, and to those that they
// start meanwhile, until none is left or ctx ends. belongs must say no about a process that has ended.
func (h Hierarchy) Kill(ctx context.Context, path string, belongs func(pid int) bool) error {
	for {
		pids, err := h.Processes(path)
		if errors.Is(err, ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range pids {
			if !belongs(pid) {
				continue
			}
			left++
			if err := kill(pid, path, belongs); err != nil {
				return err
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-time.After(killInterval):
		case <-ctx.Done():
			return fmt.Errorf("%d processes of cgroup %s still run after SIGKILL: %w", left, path, context.Cause(ctx))
		}
	}
}

// kill kills one process. A PID is used again when its process has ended, so it is asked about once
// more after FindProcess has opened a pidfd: what is true then is true of the process that gets the signal.
func kill(pid int, path string, belongs func(pid int) bool) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer func() { _ = process.Release() }()
	if in, err := Of(pid); err != nil || in != path || !belongs(pid) {
		return nil //nolint:nilerr // it has ended or moved, and is looked for again
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	return nil
}
