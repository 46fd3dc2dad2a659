package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// lab is a running machine, restored from its saved state.
type lab struct {
	set   *settings
	part  *part
	vm    *vm
	guest *guest
	run   *runDir
	http  int // port of 127.0.0.1 that is Nomad's, 0 when not forwarded
}

// start restores a machine with the plugin, and with more files for the guest, which
// extra adds; nil: none. It returns when Nomad's node is ready, with the driver when
// there is a plugin. close must follow.
func start(ctx context.Context, set *settings, http bool, extra func(*payload) error) (_ *lab, err error) {
	p := newProgress(os.Stderr)
	defer p.close()
	l := &lab{set: set}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.part, err = machinePart(ctx, set, p); err != nil {
		return nil, err
	}

	what := "without a plugin"
	if set.plugin != "" {
		what = "with " + set.plugin
	}
	s := p.step("lab " + set.suite)
	s.begins("starting " + what)
	return l, s.ends(l.restore(ctx, s, http, extra))
}

// buildOnly makes the machine that labs start from, unless it is there.
func buildOnly(ctx context.Context, set *settings) error {
	p := newProgress(os.Stderr)
	defer p.close()
	made, err := machinePart(ctx, set, p)
	if err == nil {
		made.release()
	}
	return err
}

func (l *lab) restore(ctx context.Context, s *step, http bool, extra func(*payload) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, restoreTimeout, errors.New("it did not start"))
	defer cancel()
	var err error
	if l.run, err = newRunDir(l.set.cache); err != nil {
		return err
	}
	load, err := newPayload(l.run.path("payload"))
	if err != nil {
		return err
	}
	// The disk is filled while QEMU starts, before the guest goes on.
	var group errgroup.Group
	group.Go(func() error { return errors.Join(l.fill(load, extra), load.close()) })

	s.says("restoring the saved state")
	m := machine{base: l.part.dir, dir: l.run.dir, restore: true, processors: l.set.processors, http: http}
	l.vm, err = m.start(ctx)
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	if err := l.vm.load(ctx, l.part.path("state")); err != nil {
		return err
	}
	ports, err := l.vm.ports(ctx)
	if err != nil {
		return err
	}
	l.http = ports[4646]
	l.guest = &guest{Keys: l.part.dir, Port: ports[22]}
	s.says("waiting for SSH")
	if err := l.guest.connect(ctx, l.vm.ended); err != nil {
		return err
	}
	s.says("starting Nomad")
	if err := l.enter(ctx, s, load); err != nil {
		l.saveLogs("start")
		return err
	}
	return nil
}

// fill puts what every lab needs on the payload, and extra.
func (l *lab) fill(load *payload, extra func(*payload) error) error {
	if l.set.plugin != "" {
		if err := load.add("opt/nomad/plugins/nomad-driver-podman", l.set.plugin); err != nil {
			return err
		}
	}
	if l.set.nomad != "" {
		if err := load.add("usr/local/bin/nomad", l.set.nomad); err != nil {
			return err
		}
	}
	if err := load.addIfPresent("lab/examples", filepath.Join(l.set.root, "examples")); err != nil || extra == nil {
		return err
	}
	return extra(load)
}

// enter unpacks the payload in the guest, starts Nomad and waits for it.
func (l *lab) enter(ctx context.Context, s *step, load *payload) error {
	e := enter{clock: time.Duration(time.Now().UnixNano()), offset: load.offset, nomad: l.set.nomad != ""}
	if l.set.plugin != "" {
		e.driver = "podman"
	}
	cmd := l.guest.command(ctx, []string{"-n"}, load.bootstrap(e.args()))
	cmd.Stdout, cmd.Stderr = s, s
	return cmd.Run()
}

func (l *lab) close() {
	if l.guest != nil {
		l.guest.disconnect()
	}
	if l.vm != nil {
		l.vm.kill()
	}
	if l.run != nil {
		l.run.remove()
	}
	if l.part != nil {
		l.part.release()
	}
}

// runDir is the directory of one running lab. Its lock is held while the lab runs;
// one whose lock is free is what a killed lab left.
type runDir struct {
	dir  string
	lock *os.File
}

func (r *runDir) path(name string) string { return filepath.Join(r.dir, name) }

func (r *runDir) remove() {
	_ = os.RemoveAll(r.dir)
	_ = r.lock.Close()
}

// newRunDir makes one, and removes those that killed labs left.
func newRunDir(c cache) (*runDir, error) {
	base := filepath.Join(c.dir, "run")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, err
	}
	if _, err := running(c); err != nil {
		return nil, err
	}
	// It gets its name once it is locked: an unlocked one would be taken for a killed lab's.
	dir, err := os.MkdirTemp(base, "new")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // just made
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, lock.Close(), os.RemoveAll(dir))
	}
	named := filepath.Join(base, strconv.Itoa(os.Getpid())+"-"+filepath.Base(dir))
	if err := os.Rename(dir, named); err != nil {
		return nil, errors.Join(err, lock.Close(), os.RemoveAll(dir))
	}
	return &runDir{named, lock}, nil
}

// publish lets "lab ssh" and "lab down" find the lab.
func (l *lab) publish() error {
	text, err := json.Marshal(l.guest)
	if err != nil {
		return err
	}
	temp := l.run.path("guest.new")
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, l.run.path("guest"))
}

// runningLab is a lab of this user's, of another process.
type runningLab struct {
	pid     int
	started time.Time
	guest   *guest // nil until it is ready
}

// running lists the running labs, newest first, and removes what killed ones left.
func running(c cache) ([]runningLab, error) {
	dirs, err := filepath.Glob(filepath.Join(c.dir, "run", "*-*"))
	if err != nil {
		return nil, err
	}
	var labs []runningLab
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			// Being made or removed just now.
			continue
		}
		stale := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if stale {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
		if stale {
			continue
		}
		pid, _, _ := strings.Cut(filepath.Base(dir), "-")
		r := runningLab{}
		if r.pid, err = strconv.Atoi(pid); err != nil {
			return nil, fmt.Errorf("%s: not a lab's directory: %w", dir, err)
		}
		if info, err := os.Stat(filepath.Join(dir, "guest")); err == nil {
			r.started = info.ModTime()
			text, err := os.ReadFile(filepath.Join(dir, "guest")) //nolint:gosec // in the user's own cache
			if err == nil {
				r.guest = &guest{}
				err = json.Unmarshal(text, r.guest)
			}
			if err != nil {
				return nil, err
			}
		}
		labs = append(labs, r)
	}
	slices.SortFunc(labs, func(a, b runningLab) int { return b.started.Compare(a.started) })
	return labs, nil
}
