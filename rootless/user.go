// Package rootless knows host users: who they are, how to act as one of them from a root process, whether their
// subordinate IDs suffice, and how to show them a directory that they could not reach themselves (staging).
package rootless

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// ErrUnknownUser is wrapped by the errors of Lookup and LookupUID when the host has no such user.
var ErrUnknownUser = errors.New("no such host user")

// User is a host user: the Linux account whose podman runs a task.
type User struct {
	Name string
	UID  uint32
	GID  uint32 // primary group
	Home string
}

// Unknown stands for "nobody knows which user". Its IDs are -1, which the kernel takes for no user at all, so
// that it is never mistaken for root and nothing can be done as it.
var Unknown = User{UID: math.MaxUint32, GID: math.MaxUint32}

// Lookup finds the host user called name. The error wraps ErrUnknownUser when there is none.
func Lookup(name string) (User, error) {
	entry, err := user.Lookup(name)
	return fromEntry(entry, err, strconv.Quote(name))
}

// LookupUID finds the host user with the given UID. The error wraps ErrUnknownUser when there is none.
func LookupUID(uid uint32) (User, error) {
	entry, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	return fromEntry(entry, err, fmt.Sprintf("with UID %d", uid))
}

// Self is the host user that this process runs as.
func Self() (User, error) {
	return LookupUID(uint32(os.Geteuid())) //nolint:gosec // UIDs are 32 bits wide
}

func fromEntry(entry *user.User, err error, what string) (User, error) {
	var noName user.UnknownUserError
	var noUID user.UnknownUserIdError
	if errors.As(err, &noName) || errors.As(err, &noUID) {
		return Unknown, fmt.Errorf("host user %s: %w; create the account (useradd) or name another host user", what, ErrUnknownUser)
	}
	if err != nil {
		return Unknown, fmt.Errorf("host user %s: %w", what, err)
	}
	uid, err := parseID(entry.Uid)
	if err != nil {
		return Unknown, fmt.Errorf("host user %s: UID: %w", what, err)
	}
	gid, err := parseID(entry.Gid)
	if err != nil {
		return Unknown, fmt.Errorf("host user %s: GID: %w", what, err)
	}
	return User{Name: entry.Username, UID: uid, GID: gid, Home: entry.HomeDir}, nil
}

func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, err
	}
	if id == math.MaxUint32 {
		return 0, fmt.Errorf("%d is no valid ID", id)
	}
	return uint32(id), nil
}

// IsRoot tells whether the user is the superuser, whose podman is rootful.
func (u User) IsRoot() bool { return u.UID == 0 }

// String names the user in messages.
func (u User) String() string {
	if u.Name == "" {
		return fmt.Sprintf("UID %d", u.UID)
	}
	return u.Name
}

// RuntimeDir is the user's XDG runtime directory. systemd-logind makes it when the user's manager starts,
// see pam_systemd(8).
func (u User) RuntimeDir() string {
	return "/run/user/" + strconv.FormatUint(uint64(u.UID), 10)
}

// Users are all host users, those of /etc/passwd (passwd(5)), in its order.
func Users() ([]User, error) {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, fmt.Errorf("listing host users: %w", err)
	}
	return parseUsers(string(text)), nil
}

// parseUsers leaves lines out in which Lookup finds no user, either.
func parseUsers(passwd string) []User {
	var all []User
	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 7 || fields[0] == "" || strings.HasPrefix(fields[0], "#") {
			continue
		}
		entry := &user.User{Username: fields[0], Uid: fields[2], Gid: fields[3], HomeDir: fields[5]}
		if u, err := fromEntry(entry, nil, fields[0]); err == nil {
			all = append(all, u)
		}
	}
	return all
}
