// Package exits notices the end of processes, whoever their parent is.
//
// A pidfd (pidfd_open(2)) becomes readable at the moment its process ends. One [Loop] waits
// for any number of them, so that a running process costs a descriptor and nothing else.
package exits

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that a process has ended, also when its PID already belongs to another one.
var ErrGone = errors.New("process has ended")

// Process identifies one process of the current boot: PIDs are used again, a PID together
// with its start time is not.
type Process struct {
	PID   int
	Start uint64 // clock ticks after boot, field 22 of /proc/PID/stat (proc_pid_stat(5))
}

// maxPID is the highest PID that a kernel gives (PID_MAX_LIMIT of include/linux/threads.h).
const maxPID = 1 << 22

// Started returns when the process was started, after boot.
func (p Process) Started() time.Duration {
	const tick = time.Second / 100 // on every architecture (USER_HZ of the kernel)

	return time.Duration(p.Start) * tick // #nosec G115 -- centuries
}

// Identify returns the process that has the PID now. A process that has ended but was not
// yet reaped by its parent still has its PID. The error is ErrGone when no process has it.
func Identify(pid int) (Process, error) {
	if pid <= 0 || pid > maxPID {
		return Process{}, fmt.Errorf("%d is no process ID", pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Process{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return Process{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	start, err := startTime(stat)
	if err != nil {
		return Process{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return Process{PID: pid, Start: start}, nil
}

// startTime takes field 22 out of the text of /proc/PID/stat.
func startTime(stat []byte) (uint64, error) {
	// Field 2 is the command in parentheses, chosen by the process: it may hold spaces and
	// parentheses. No later field does.
	const fieldAfterCommand, startField = 3, 22
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	fields := bytes.Fields(rest)
	if len(fields) <= startField-fieldAfterCommand {
		return 0, fmt.Errorf("only %d fields follow the command in /proc/PID/stat", len(fields))
	}
	return strconv.ParseUint(string(fields[startField-fieldAfterCommand]), 10, 64)
}
