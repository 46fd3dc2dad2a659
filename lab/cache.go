package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cache holds the parts that labs are made from, each a directory named by its
// recipe. A part is complete or absent: it is made under another name and renamed.
// Beside each lies a lock file: shared while the part is used, exclusive while it
// is made or removed.
type cache struct{ dir string }

// unusedFor is how long a part of an older recipe is kept after its last use.
const unusedFor = 7 * 24 * time.Hour

// part is a cached directory in use.
type part struct {
	dir  string
	lock *os.File
}

func (p *part) path(name string) string { return filepath.Join(p.dir, name) }

// release lets others remove the part.
func (p *part) release() { _ = p.lock.Close() }

// get returns the part called kind-key, and makes it when it is missing. Of several
// processes that miss it, one makes it and the others wait. Parts of the same kind
// that have not been used for long are removed after one has been made.
func (c cache) get(ctx context.Context, s *step, kind, key string, build func(ctx context.Context, dir string) error) (*part, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	p := &part{dir: filepath.Join(c.dir, kind+"-"+key)}
	lock, err := os.OpenFile(p.dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	p.lock = lock
	if err := p.complete(ctx, s, build); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// complete takes the part's lock and makes the part when it is missing.
func (p *part) complete(ctx context.Context, s *step, build func(ctx context.Context, dir string) error) error {
	if err := flock(ctx, p.lock, unix.LOCK_SH, s); err != nil {
		return err
	}
	now := time.Now()
	if os.Chtimes(p.dir, now, now) == nil {
		return nil
	}
	if err := flock(ctx, p.lock, unix.LOCK_UN, s); err != nil {
		return err
	}
	if err := flock(ctx, p.lock, unix.LOCK_EX, s); err != nil {
		return err
	}
	if _, err := os.Stat(p.dir); errors.Is(err, fs.ErrNotExist) {
		if err := p.build(ctx, build); err != nil {
			return err
		}
		p.prune(now)
	}
	return flock(ctx, p.lock, unix.LOCK_SH, s)
}

// build makes the part while its lock is held exclusively.
func (p *part) build(ctx context.Context, build func(ctx context.Context, dir string) error) (err error) {
	temp := p.dir + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	if err := build(ctx, temp); err != nil {
		return err
	}
	// On disk before it has its name, so that a crash leaves no half of it.
	if err := syncFiles(temp); err != nil {
		return err
	}
	return os.Rename(temp, p.dir)
}

// prune removes the parts of p's kind that have not been used for long.
func (p *part) prune(now time.Time) {
	kind := p.dir[:strings.LastIndex(p.dir, "-")]
	others, _ := filepath.Glob(kind + "-*.lock")
	for _, lock := range others {
		dir := strings.TrimSuffix(lock, ".lock")
		info, err := os.Stat(dir)
		if dir != p.dir && err == nil && now.Sub(info.ModTime()) > unusedFor {
			_ = removePart(dir)
		}
	}
}

var errInUse = errors.New("in use")

// removePart removes a part and what a killed build of it left, unless it is in
// use. Its lock file stays: removing a lock that another process is opening would
// give two processes the same lock.
func removePart(dir string) error {
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the user's own cache
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s: %w", dir, errInUse)
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".new"))
}

// clean removes every part that no lab is using.
func (c cache) clean() error {
	locks, err := filepath.Glob(filepath.Join(c.dir, "*.lock"))
	if err != nil {
		return err
	}
	var failed error
	for _, lock := range locks {
		failed = errors.Join(failed, removePart(strings.TrimSuffix(lock, ".lock")))
	}
	if errors.Is(failed, errInUse) {
		return fmt.Errorf("%w\nend the labs that use it first: lab down", failed)
	}
	return errors.Join(failed, os.RemoveAll(c.dir))
}

// flock waits for a lock, and says what it waits for.
func flock(ctx context.Context, file *os.File, how int, s *step) error {
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		s.says("another lab is making it")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// syncFiles writes the files of a directory to disk.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		file, err := os.OpenFile(filepath.Join(dir, entry.Name()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return nil
}
