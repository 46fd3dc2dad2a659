package allocdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/rootless"
)

// Kind is what a job's volume shows of the allocation, and so how it may be mounted.
type Kind int

// What a volume can show.
const (
	Plain   Kind = iota // nothing of Nomad's
	Shared              // the shared directory with Nomad's log files in it
	Logs                // Nomad's log files, or some of them
	Secrets             // the task's secrets, or some of them
)

// Volume opens the source of a job's volume, a path relative to the task's directory, and tells what it is. It may be a
// file. Symbolic links are followed as long as they stay in the allocation (rootless.OpenBeneath); what counts is where they
// have led. The error says why when a task may not have it.
func (d *Dir) Volume(task, rel string) (*os.File, Kind, error) {
	source, err := rootless.OpenBeneath(d.root.Name(), filepath.Join(task, rel))
	if err != nil {
		return nil, Plain, err
	}
	where, err := d.where(source)
	if err != nil {
		return nil, Plain, errors.Join(err, source.Close())
	}
	kind, err := judge(task, where)
	if err == nil && kind != Secrets {
		err = d.checkDevice(source)
	}
	if err != nil {
		return nil, Plain, errors.Join(err, source.Close())
	}
	return source, kind, nil
}

// checkDevice refuses what is mounted in the allocation: that are secrets, and what other drivers show their tasks.
func (d *Dir) checkDevice(source *os.File) error {
	root, err := idOf(d.root)
	if err != nil {
		return err
	}
	id, err := idOf(source)
	if err == nil && id.Dev != root.Dev {
		err = errors.New("something else is mounted there")
	}
	return err
}

// where is the path of an open file or directory, relative to the allocation's directory and over no link. The kernel names it,
// and it is opened again by that name to see that this is it: who may rename things there could have done so meanwhile.
func (d *Dir) where(f *os.File) (string, error) {
	root, err := pathOf(d.root)
	if err != nil {
		return "", err
	}
	path, err := pathOf(f)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s lies outside the allocation's directory: %w", path, rootless.ErrEscapes)
	}
	again, err := openat(d.root, rel, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return "", err
	}
	first, err := idOf(f)
	second, err2 := idOf(again)
	if err := errors.Join(err, err2, again.Close()); err != nil {
		return "", err
	}
	if first != second {
		return "", fmt.Errorf("%s was renamed while it was looked at", path)
	}
	return rel, nil
}

// pathOf is the path by which the kernel knows what is open (proc_pid_fd(5)).
func pathOf(f *os.File) (string, error) {
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))) //nolint:gosec // a descriptor
}

// judge tells what lies at a path of the allocation.
func judge(task, path string) (Kind, error) {
	first, rest, _ := strings.Cut(path, "/")
	second, _, _ := strings.Cut(rest, "/")
	switch {
	case first == ".":
		return Plain, errors.New("this is the allocation's directory, with the secrets of all its tasks")
	case first == shared && second == "":
		return Shared, nil
	case first == shared && second == LogsName:
		return Logs, nil
	case first == shared:
		return Plain, nil
	case first != task:
		return Plain, fmt.Errorf("this is in the directory of another task, %q; tasks share files in ../alloc", first)
	case second == "":
		return Plain, errors.New("this is the task's directory, where Nomad keeps what the task itself must not change; name a directory in it")
	case second == private:
		return Plain, errors.New("this is in a directory that Nomad keeps to itself")
	case second == secrets:
		return Secrets, nil
	}
	return Plain, nil
}
