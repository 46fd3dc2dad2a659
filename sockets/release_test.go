package sockets

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// newReleasable is the endpoint of another user, on a host where the driver is root and remembers what it starts.
func newReleasable(t *testing.T, after time.Duration) (*fakeHost, *Endpoint) {
	t.Helper()
	h, e, _ := newFakeHost(t, 65534, Options{Linger: true, StateDir: t.TempDir(), ReleaseAfter: after})
	e.registry.agent = 0
	h.manager = "inactive"
	return h, e
}

func TestRelease(t *testing.T) {
	for name, test := range map[string]struct {
		found func(*fakeHost) // how the driver finds the host
		later func(*fakeHost) // what happens afterwards
		ended []string
		err   error
	}{
		"all that it has started": {
			ended: []string{"user stop podman.socket", "system no linger", "system stop user@65534.service"},
		},
		"a manager that ran and lingered": {
			found: func(h *fakeHost) { h.manager, h.lingers = "active", true },
			ended: []string{"user stop podman.socket"},
		},
		"a socket that was active": {
			found: func(h *fakeHost) { h.manager, h.lingers, h.socket = "active", true, "active" },
		},
		"a user who has logged in since": {
			later: func(h *fakeHost) { h.loggedIn = true },
			ended: []string{"user stop podman.socket", "system no linger"},
		},
		"a user who runs containers": {
			later: func(h *fakeHost) { h.containers = true },
			err:   ErrInUse,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, e := newReleasable(t, 0)
			if test.found != nil {
				test.found(h)
			}
			must.NoError(t, e.startSocket(t.Context()))
			h.manager = "active"
			if test.later != nil {
				test.later(h)
			}
			h.took()
			err := e.release(t.Context())
			must.True(t, errors.Is(err, test.err), must.Sprint(err))
			var ended []string
			for _, what := range h.took() {
				if what != "system bus" && what != "user bus" {
					ended = append(ended, what)
				}
			}
			must.Eq(t, test.ended, ended)
			_, err = os.Stat(e.registry.startedFile(65534))
			must.Eq(t, test.err == nil, errors.Is(err, os.ErrNotExist))
		})
	}
}

// It is released when nobody holds it any more, also when an earlier process has started it.
func TestHold(t *testing.T) {
	h, e := newReleasable(t, time.Millisecond)
	released := func() bool {
		_, err := os.Stat(e.registry.startedFile(65534))
		return errors.Is(err, os.ErrNotExist)
	}
	first, second := e.Hold(), e.Hold()
	must.NoError(t, e.startSocket(t.Context()))
	h.manager = "active"
	first()
	first()
	e.releaseIdle()
	must.False(t, released())
	second()
	await(t, "the release", released)

	h.stopped()
	must.NoError(t, e.startSocket(t.Context()))
	must.NoError(t, e.registry.ReleaseUnused())
	await(t, "the release", released)
}
