package sockets

import (
	"errors"
	"testing"

	"github.com/shoenig/test/must"
)

// What is asked about an endpoint depends on whose it is, and nothing is started.
func TestUnits(t *testing.T) {
	for name, test := range map[string]struct {
		uid   uint32
		host  func(*fakeHost, *Endpoint)
		want  Units
		asked []string
	}{
		"runs":          {2001, nil, Units{Manager: "active", Lingers: true, Socket: "active"}, []string{"system bus", "user bus"}},
		"does not run":  {2001, func(h *fakeHost, _ *Endpoint) { h.manager = "inactive" }, Units{Manager: "inactive", Lingers: true, Socket: "inactive"}, []string{"system bus"}},
		"not systemd's": {2001, func(_ *fakeHost, e *Endpoint) { e.managed = false }, Units{Manager: "active", Lingers: true}, []string{"system bus"}},
		"root's":        {0, nil, Units{Socket: "active"}, []string{"system bus"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, e, _ := newFakeHost(t, test.uid, Options{})
			e.user.UID = test.uid
			h.manager, h.lingers, h.socket = "active", true, "active"
			if test.host != nil {
				test.host(h, e)
			}
			units, err := e.Units(t.Context())
			must.NoError(t, err)
			must.Eq(t, test.want, units)
			must.Eq(t, test.asked, h.took())
		})
	}
}

func TestUnitsMasked(t *testing.T) {
	h, e, _ := newFakeHost(t, 2001, Options{})
	h.manager, h.load = "active", "masked"
	units, err := e.Units(t.Context())
	must.NoError(t, err)
	must.ErrorIs(t, units.Masked, ErrUnitMasked)
	must.ErrorContains(t, units.Masked, "systemctl --user --machine=x@ unmask podman.socket")

	h.fail["user bus"] = errors.New("no bus")
	_, err = e.Units(t.Context())
	must.ErrorContains(t, err, "no bus")
}
