package rootless

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// lookTimeout bounds a look at what is the user's, which may lie on a network filesystem whose server does not answer.
const lookTimeout = 10 * time.Second

// errUnseen is wrapped by the errors of looks that could not be made, so that nobody knows what is there.
var errUnseen = errors.New("nobody could look")

// look returns what fn does when it runs as the user. fn only looks, for it goes on after a timeout.
func look[T any](u User, fn func() (T, error)) (T, error) { return lookWithin(lookTimeout, u, fn) }

func lookWithin[T any](timeout time.Duration, u User, fn func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		looked := false
		r.err = u.Do(func() error {
			looked = true
			var err error
			r.value, err = fn()
			return err
		})
		if !looked {
			r.err = fmt.Errorf("%w: %w", errUnseen, r.err)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-time.After(timeout):
		var none T
		return none, fmt.Errorf("%w: no answer from the file system within %s: %w", errUnseen, timeout, os.ErrDeadlineExceeded)
	}
}

// maxSettings bounds a configuration file, in bytes.
const maxSettings = 1 << 20

// readSettings reads a configuration file of podman's as podman does it: with the user's rights, and also when it is a
// link or somebody else's. So nothing can be read that the user could not, except by a magic link of /proc, which would
// resolve to this process's own descriptors.
func (u User) readSettings(path string) ([]byte, error) {
	return look(u, func() (_ []byte, err error) {
		f, err := openSettings(path, 0)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return nil, errors.Join(err, errors.New("not a regular file"))
		}
		text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
		if len(text) > maxSettings {
			return nil, fmt.Errorf("longer than %d bytes", maxSettings)
		}
		return text, err
	})
}

// openSettings opens a file, or with O_DIRECTORY a directory, to read it. Nothing in its place makes the open wait.
func openSettings(path string, flag uint64) (*os.File, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   flag | unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil //nolint:gosec // not negative
}

// existing is the path itself, or the nearest directory above it that exists.
func existing(path string) (string, error) {
	for {
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return path, err
		}
		path = filepath.Dir(path)
	}
}

// OnlyRootChanges tells whether root alone can change what is in a directory, so that root may run a command on it: every
// directory down to it is root's, nobody else can write there, and none is a symbolic link. A relative path is nobody's.
func OnlyRootChanges(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != 0 || st.Mode&0o022 != 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// command is a command of a root shell that runs a program as the user, in an environment that rootless podman needs.
func (u User) command(args ...string) string {
	return finding.Command(append([]string{"runuser", "-u", u.Name, "--",
		"env", "--chdir=/", "HOME=" + u.Home, "XDG_RUNTIME_DIR=" + u.RuntimeDir()}, args...)...)
}
