// Package sockets knows podman's API sockets: which host user each belongs to, how to have systemd start it, and how
// to speak to the podman service behind it.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/rootless"
)

// EndpointConfig names an endpoint.
type EndpointConfig struct {
	Name string
	// Path of the socket. Empty: where podman.socket of User listens.
	Path string
	// User whose podman it is. Nil: whose podman.socket listens at Path, else who owns the socket there. systemd is
	// asked to start only a podman.socket.
	User *rootless.User
}

// Options are what all endpoints of a registry share.
type Options struct {
	Linger bool // let the managers of users outlive their sessions
	// StateDir is where it is noted what was started for host users. Empty: nowhere.
	StateDir string
	// ReleaseAfter is how long after its last use that is kept; 0: for ever.
	ReleaseAfter time.Duration
	Timeout      time.Duration // for what podman answers at once; default 60 s
	Logger       hclog.Logger
	OnChange     func(*Endpoint) // called after an endpoint's state has changed, without locks held; may be nil
}

// Registry holds the endpoints that the configuration names and those that tasks ask for by host user.
type Registry struct {
	options    Options
	configured []*Endpoint
	agent      uint32 // UID that this process runs as
	connect    func(context.Context, *rootless.User) (manager, error)
	watchUnit  func(context.Context, *rootless.User) (unitWatch, error)
	checkIDs   func(rootless.User) error
	checkHost  func() error // whether it can have rootless containers

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // activations and watches

	mu       sync.Mutex
	closed   bool
	onDemand map[uint32]*Endpoint // by UID
}

// New makes a registry. It connects to nothing.
func New(endpoints []EndpointConfig, o Options) (*Registry, error) {
	if o.Timeout == 0 {
		o.Timeout = 60 * time.Second
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	r := &Registry{
		options:   o,
		agent:     uint32(os.Geteuid()), //nolint:gosec // UIDs are 32 bits wide
		connect:   connectManager,
		watchUnit: openWatch,
		checkIDs:  rootless.User.CheckSubordinateIDs,
		checkHost: cgroupv2.CheckRootless,
		onDemand:  make(map[uint32]*Endpoint),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, config := range endpoints {
		if _, ok := r.Endpoint(config.Name); ok {
			return nil, fmt.Errorf("socket %q is configured twice", config.Name)
		}
		e, err := newEndpoint(r, config)
		if err != nil {
			return nil, fmt.Errorf("socket %q: %w", config.Name, err)
		}
		r.configured = append(r.configured, e)
	}
	return r, nil
}

// Endpoint finds a configured endpoint by its name.
func (r *Registry) Endpoint(name string) (*Endpoint, bool) {
	for _, e := range r.configured {
		if e.name == name {
			return e, true
		}
	}
	return nil, false
}

// Endpoints are the configured ones, in the order of the configuration.
func (r *Registry) Endpoints() []*Endpoint { return r.configured }

// ForUser is the endpoint of a host user's own podman.socket: a configured one, else one that is made now and kept.
func (r *Registry) ForUser(u rootless.User) *Endpoint {
	for _, e := range r.configured {
		if e.managed && e.User().UID == u.UID {
			return e
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.onDemand[u.UID]
	if !ok {
		e = newManagedEndpoint(r, u.String(), u)
		r.onDemand[u.UID] = e
	}
	return e
}

// Active are the endpoints that are in use: activated, and not found dead since.
func (r *Registry) Active() []*Endpoint {
	r.mu.Lock()
	all := append(slices.Clone(r.configured), slices.Collect(maps.Values(r.onDemand))...)
	r.mu.Unlock()
	return slices.DeleteFunc(all, func(e *Endpoint) bool { return !e.State().Active })
}

// permit refuses another user's podman to an agent that is not root. It might reach the socket, with the rights of a
// group, but neither the containers' logs nor, when systemd is to start it, the user's manager.
func (r *Registry) permit(user rootless.User) error {
	if r.agent == 0 || r.agent == user.UID || user == rootless.Unknown {
		return nil
	}
	return fmt.Errorf("the agent runs as UID %d, which can use no other user's podman (%s's); run the agent as root, or use the podman of its own user", r.agent, user)
}

// begin registers an activation. The context ends after timeout or with Close, which waits for end.
func (r *Registry) begin(timeout time.Duration) (ctx context.Context, end func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, errors.New("the driver is shutting down or has a new configuration")
	}
	r.wg.Add(1)
	ctx, cancel := context.WithTimeoutCause(r.ctx, timeout, fmt.Errorf("not done within %s: %w", timeout, context.DeadlineExceeded))
	return ctx, func() { cancel(); r.wg.Done() }, nil
}

// goWatch runs a watch that ends with the registry, and tells whether it does.
func (r *Registry) goWatch(watch func(context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.wg.Go(func() { watch(r.ctx) })
	}
	return !r.closed
}

// changed tells who wants to know that an endpoint's state has changed.
func (r *Registry) changed(e *Endpoint) {
	if r.options.OnChange != nil {
		r.options.OnChange(e)
	}
}

// Close ends activations that are under way, and watches. Clients stay usable.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
	return nil
}
