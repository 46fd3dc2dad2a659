package sockets

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/rootless"
)

// fakeUnit is what watches of podman.socket see.
type fakeUnit struct {
	mu           sync.Mutex
	load, active string
	watches      []*fakeWatch
	opens        int
	refused      error // what keeps a watch from being opened
}

type fakeWatch struct {
	unit    *fakeUnit
	changes chan struct{}
	closed  chan struct{}
}

func (h *fakeHost) watchUnit(context.Context, *rootless.User) (unitWatch, error) {
	u := &h.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opens++
	if u.refused != nil {
		return nil, u.refused
	}
	w := &fakeWatch{u, make(chan struct{}, 1), make(chan struct{})}
	u.watches = append(u.watches, w)
	return w, nil
}

func (w *fakeWatch) Changes() <-chan struct{} { return w.changes }
func (w *fakeWatch) Closed() <-chan struct{}  { return w.closed }
func (w *fakeWatch) Close()                   {}

func (w *fakeWatch) State(context.Context) (load, active string, err error) {
	w.unit.mu.Lock()
	defer w.unit.mu.Unlock()
	if w.unit.active == "" {
		return "loaded", "active", nil
	}
	return w.unit.load, w.unit.active, nil
}

// become changes the unit, and its watches hear of it.
func (u *fakeUnit) become(load, active string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.load, u.active = load, active
	for _, w := range u.watches {
		select {
		case w.changes <- struct{}{}:
		default:
		}
	}
}

// disconnect ends the connections to the bus. New ones are refused with the error, unless it is nil.
func (u *fakeUnit) disconnect(refused error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refused = refused
	for _, w := range u.watches {
		close(w.closed)
	}
	u.watches = nil
}

func (u *fakeUnit) counts() (opens, open int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.opens, len(u.watches)
}

// await waits for a condition, which no event tells about.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("not within 10 s: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWatch(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	active := func() bool { return e.State().Active }
	inactive := func() bool { return !active() }
	masked := func() bool { return errors.Is(e.CheckActivatable(t.Context()), ErrUnitMasked) }
	watched := func(opens int) func() bool {
		return func() bool { made, open := h.unit.counts(); return made == opens && open == 1 }
	}
	activate := func() {
		t.Helper()
		_, err := e.Activate(t.Context())
		must.NoError(t, err)
	}
	activate()
	await(t, "a watch", watched(1))

	// The socket is stopped, and activated again; the watch stays.
	h.stopped()
	h.unit.become("loaded", "inactive")
	await(t, "the news that it is stopped", inactive)
	must.EqError(t, e.State().Err, "podman.socket is inactive")
	must.False(t, masked())
	h.unit.become("loaded", "active")
	activate()
	must.True(t, active())

	// A masked unit that is still active goes on, but is told.
	h.unit.become("masked", "active")
	await(t, "the news that it is masked", masked)
	must.True(t, active())
	h.stopped()
	h.unit.become("masked", "inactive")
	await(t, "the news that it is stopped", inactive)
	h.unit.become("loaded", "inactive")
	await(t, "the news that it is unmasked", func() bool { return !masked() })
	h.unit.become("loaded", "active")
	activate()

	// The bus is restarted.
	h.unit.disconnect(nil)
	await(t, "a new watch", watched(2))
	must.True(t, active())

	// The manager ends.
	h.stopped()
	h.unit.disconnect(errors.New("no bus"))
	await(t, "the news that it has ended", inactive)
	must.ErrorContains(t, e.State().Err, "has ended")

	// It comes back with the next task.
	h.unit.disconnect(nil)
	before, _ := h.unit.counts()
	activate()
	await(t, "a watch again", watched(before+1))
}
