package sockets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containers/storage/pkg/ioutils"

	"nomad-driver-podman/rootless"
)

// started is what this driver has started for a host user and did not find running, and so may end again.
type started struct {
	Linger  bool
	Manager bool
	Socket  bool
}

// startedFile is where that is noted, by UID: it outlives the driver.
func (r *Registry) startedFile(uid uint32) string {
	return filepath.Join(r.options.StateDir, "started", strconv.FormatUint(uint64(uid), 10)+".json")
}

func (r *Registry) readStarted(uid uint32) (what started, err error) {
	text, err := os.ReadFile(r.startedFile(uid))
	if errors.Is(err, fs.ErrNotExist) {
		return what, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &what)
	}
	if err != nil {
		return what, fmt.Errorf("reading what was started for UID %d: %w", uid, err)
	}
	return what, nil
}

// noteStarted adds to what was started, before it is.
func (r *Registry) noteStarted(uid uint32, add func(*started)) error {
	if r.options.StateDir == "" {
		return nil
	}
	what, err := r.readStarted(uid)
	if err != nil {
		return err
	}
	before := what
	if add(&what); what == before {
		return nil
	}
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	path := r.startedFile(uid)
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = ioutils.AtomicWriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("noting what is started for UID %d: %w", uid, err)
	}
	return nil
}

// Hold keeps what was started for the endpoint until the returned function is called, which may be called again. When
// nobody holds it any more, it is released after Options.ReleaseAfter.
func (e *Endpoint) Hold() (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holds++
	if e.releasing != nil {
		e.releasing.Stop()
		e.releasing = nil
	}
	done := false
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if done {
			return
		}
		done = true
		e.holds--
		e.scheduleRelease()
	}
}

// scheduleRelease has the endpoint released, unless somebody holds it. It needs the lock.
func (e *Endpoint) scheduleRelease() {
	if e.holds == 0 && e.managed && e.registry.options.ReleaseAfter > 0 && e.registry.agent == 0 {
		e.releasing = time.AfterFunc(e.registry.options.ReleaseAfter, e.releaseIdle)
	}
}

// ReleaseUnused has what earlier processes of the driver have started released, as far as nobody holds it.
func (r *Registry) ReleaseUnused() error {
	files, err := filepath.Glob(filepath.Join(r.options.StateDir, "started", "*.json"))
	for _, file := range files {
		uid, parseErr := strconv.ParseUint(filepath.Base(file[:len(file)-len(".json")]), 10, 32)
		user, lookupErr := rootless.LookupUID(uint32(uid))
		if parseErr != nil || lookupErr != nil {
			err = errors.Join(err, parseErr, lookupErr)
			continue
		}
		e := r.ForUser(user)
		e.mu.Lock()
		e.scheduleRelease()
		e.mu.Unlock()
	}
	return err
}

// ErrInUse says that somebody else uses what was started.
var ErrInUse = errors.New("containers run there")

// releaseIdle ends what was started for the endpoint, unless somebody has come to hold it.
func (e *Endpoint) releaseIdle() {
	ctx, end, err := e.registry.begin(activationTimeout)
	if err != nil {
		return // the registry is closed: what is noted is released by its successor
	}
	defer end()
	err = e.Release(ctx)
	if err == nil {
		return
	}
	if !errors.Is(err, ErrInUse) {
		e.registry.options.Logger.Warn("what was started for a host user cannot be ended", "of", e.client.owner, "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scheduleRelease()
}

// Release ends what was started for the endpoint, unless somebody holds it. The error is ErrInUse when the host user has
// running containers.
func (e *Endpoint) Release(ctx context.Context) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.mu.Lock()
	held := e.holds > 0
	e.mu.Unlock()
	if held {
		return nil
	}
	return e.release(ctx)
}

// release ends what is noted, in the opposite order of its start.
func (e *Endpoint) release(ctx context.Context) error {
	user := e.User()
	what, err := e.registry.readStarted(user.UID)
	if err != nil || what == (started{}) {
		return err
	}
	system, err := e.registry.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer system.Close()
	// The manager's unit is stopped with all that runs in it, whoever has started that.
	_, active, _, err := system.UnitState(ctx, userManagerUnit(user))
	if err != nil {
		return err
	}
	if active == "active" {
		if err := e.releaseSocket(ctx, user, what.Socket); err != nil {
			return err
		}
	}
	if what.Linger {
		if err := system.DisableLinger(ctx, user.UID); err != nil {
			return err
		}
	}
	if what.Manager && !system.LoggedIn(ctx, user.UID) {
		if err := system.StopUnit(ctx, userManagerUnit(user)); err != nil {
			return err
		}
	}
	e.registry.options.Logger.Info("ended what was started for a host user", "of", e.client.owner, "linger", what.Linger, "manager", what.Manager, "socket", what.Socket)
	return os.Remove(e.registry.startedFile(user.UID))
}

// releaseSocket stops podman.socket, unless containers run there.
func (e *Endpoint) releaseSocket(ctx context.Context, user rootless.User, stop bool) error {
	manager, err := e.registry.connect(ctx, &user)
	if err != nil {
		return err
	}
	defer manager.Close()
	running, err := manager.Running(ctx, "libpod-*.scope")
	switch {
	case err != nil:
		return err
	case running:
		return ErrInUse
	case stop:
		return manager.StopUnit(ctx, socketUnit)
	}
	return nil
}
