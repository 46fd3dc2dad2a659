package books

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// stageRoot is where the driver shows root's directories to host users while their container starts.
const stageRoot = "/run/nomad-podman"

// strayMounts finds staging mounts, in the mount namespace of any process: those of rootless podman are copies of
// PID 1's. A mount is named once, with the first process that sees it.
func strayMounts(l *look) ([]string, error) {
	var left []string
	namespaces, points := map[string]bool{}, map[string]bool{}
	for _, p := range l.processes {
		namespace := l.host.namespace(p.pid, "mnt")
		if namespace == "" || namespaces[namespace] {
			continue
		}
		namespaces[namespace] = true
		text, err := l.host.read(fmt.Sprintf("/proc/%d/mountinfo", p.pid))
		if isGone(err) || errors.Is(err, fs.ErrInvalid) {
			continue
		}
		if err != nil {
			return left, err
		}
		for _, point := range mountPoints(text) {
			if (point + "/")[:min(len(point)+1, len(stageRoot)+1)] == stageRoot+"/" && !points[point] {
				points[point] = true
				left = append(left, fmt.Sprintf("%s is mounted, seen by %s", point, p))
			}
		}
	}
	return left, nil
}

// mountPoints are those of proc_pid_mountinfo(5).
func mountPoints(mountinfo string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Split(line, " "); len(fields) > 5 { // the kernel escapes spaces, but not all that is white
			points = append(points, unescape(fields[4]))
		}
	}
	return points
}

var escaped = regexp.MustCompile(`\\[0-7]{3}`)

// unescape replaces the octal codes of white space and backslashes.
func unescape(path string) string {
	return escaped.ReplaceAllStringFunc(path, func(code string) string {
		char, err := strconv.ParseUint(code[1:], 8, 8)
		if err != nil {
			return code
		}
		return string([]byte{byte(char)})
	})
}

// strayStages finds directories of stages, whose task has started or failed.
func strayStages(l *look) ([]string, error) {
	stages, err := l.host.glob(stageRoot + "/stage/*/*")
	var left []string
	for _, stage := range stages {
		left = append(left, fmt.Sprintf("%s is left of a task of UID %s", stage, filepath.Base(filepath.Dir(stage))))
	}
	return left, err
}

// containerCgroup is the name of the cgroup of a container, or of its monitor.
var containerCgroup = regexp.MustCompile(`libpod-(?:conmon-)?([0-9a-f]{64})`)

// strayCgroups finds cgroups of containers that do not run.
func strayCgroups(l *look) ([]string, error) {
	running := l.running()
	var left []string
	top := l.host.path("/sys/fs/cgroup")
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		match := containerCgroup.FindStringSubmatch(entry.Name())
		if match == nil {
			return nil
		}
		if _, runs := running[match[1]]; !runs {
			left = append(left, fmt.Sprintf("%s is of no running container", strings.TrimPrefix(path, top)))
		}
		return fs.SkipDir
	})
	return left, err
}
