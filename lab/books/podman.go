package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// user may have a podman: root, or a regular user with subordinate IDs.
type user struct {
	name, home string
	uid        int
}

// firstUID is that of the first regular user (login.defs(5), UID_MIN).
const firstUID = 1000

func (u user) runtimeDir() string { return fmt.Sprintf("/run/user/%d", u.uid) }

// storage is podman's default place for images and containers (containers-storage.conf(5)).
func (u user) storage() string {
	if u.uid == 0 {
		return "/var/lib/containers/storage"
	}
	return filepath.Join(u.home, ".local/share/containers/storage")
}

// networks is where podman keeps what the user's bridge networks need while a container is on one.
func (u user) networks() string {
	if u.uid == 0 {
		return "/run/containers/networks"
	}
	return filepath.Join(u.runtimeDir(), "containers/networks")
}

// podman is the command line that runs podman as the user.
func (u user) podman(args ...string) []string {
	if u.uid == 0 {
		return append([]string{"podman"}, args...)
	}
	return append([]string{
		"runuser", "-u", u.name, "--", "env", "-i", "HOME=" + u.home, "PATH=" + os.Getenv("PATH"),
		"XDG_RUNTIME_DIR=" + u.runtimeDir(), "DBUS_SESSION_BUS_ADDRESS=unix:path=" + u.runtimeDir() + "/bus", "podman",
	}, args...)
}

// takeUsers reads passwd(5) and subuid(5).
func (m *machine) takeUsers(_ context.Context, l *look) error {
	passwd, err := l.host.read("/etc/passwd")
	if err != nil {
		return err
	}
	subuid, err := l.host.read("/etc/subuid")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l.users = parseUsers(passwd, subuid)
	return nil
}

func parseUsers(passwd, subuid string) []user {
	subordinate := map[string]bool{} // by name or UID
	for line := range strings.Lines(subuid) {
		owner, _, _ := strings.Cut(line, ":")
		subordinate[owner] = true
	}
	var users []user
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 7 {
			continue
		}
		uid, err := strconv.Atoi(fields[2])
		if err != nil {
			continue
		}
		if uid == 0 && fields[0] == "root" || uid >= firstUID && (subordinate[fields[0]] || subordinate[fields[2]]) {
			users = append(users, user{name: fields[0], home: fields[5], uid: uid})
		}
	}
	return users
}

// container is what podman-container-inspect(1) says of one.
type container struct {
	ID     string `json:"Id"`
	Name   string
	Config struct{ Labels map[string]string }
	State  struct {
		Status         string
		Pid, ConmonPid int
	}
	NetworkSettings struct{ SandboxKey string }
	HostConfig      struct{ NetworkMode string }

	owner user
}

func (c container) String() string {
	return fmt.Sprintf("container %s (%.12s) of %s", c.Name, c.ID, c.owner.name)
}

func (c container) runs() bool {
	return slices.Contains([]string{"running", "paused", "stopping"}, c.State.Status)
}

// task is the task of the container's labels.
func (c container) task() (task, bool) {
	alloc, labelled := c.Config.Labels["com.hashicorp.nomad.alloc_id"]
	return task{alloc, c.Config.Labels["com.hashicorp.nomad.task_name"]}, labelled
}

// takeContainers asks the podman of root, and of users whose manager runs: only that can have running containers, and
// asking the others would start podman's own helper for them.
func (m *machine) takeContainers(ctx context.Context, l *look) error {
	for _, u := range l.users {
		if u.uid != 0 && !l.host.exists(u.runtimeDir()) {
			continue
		}
		list, err := m.podman(ctx, u, "ps", "--all", "--quiet", "--no-trunc")
		if err != nil {
			return err
		}
		ids := strings.Fields(string(list))
		if len(ids) == 0 {
			continue
		}
		described, err := m.podman(ctx, u, append([]string{"container", "inspect"}, ids...)...)
		if err != nil {
			return err
		}
		var containers []container
		if err := json.Unmarshal(described, &containers); err != nil {
			return fmt.Errorf("podman of %s: %w", u.name, err)
		}
		for i := range containers {
			containers[i].owner = u
		}
		l.containers = append(l.containers, containers...)
	}
	return nil
}

func (m *machine) podman(ctx context.Context, u user, args ...string) ([]byte, error) {
	words := u.podman(args...)
	return m.command(ctx, words[0], words[1:]...)
}

// command runs a program and returns what it prints to its standard output. The error tells what else it said.
func command(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "/" // the users cannot enter root's
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, err
}
