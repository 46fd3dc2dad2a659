package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/rootless"
)

const socketUnit = "podman.socket"

// Endpoint is one podman API socket and what is known about it.
type Endpoint struct {
	registry *Registry
	name     string
	path     string
	managed  bool // systemd starts it: path is where podman.socket of the user listens
	client   *Client
	flight   singleflight.Group
	turn     sync.Mutex // of an activation or a release

	mu    sync.Mutex
	user  rootless.User
	state State
	// watched is whether somebody watches podman.socket, and masked what that tells about its unit file.
	watched bool
	masked  error
	// holds counts who needs it; releasing is what will release it when that is nobody.
	holds     int
	releasing *time.Timer
}

// State is what was last seen of an endpoint.
type State struct {
	Active bool  // it was activated and no connection has failed since
	Err    error // why it is not active; nil when nothing was tried yet
	Info   Info  // of the last activation; zero before the first
}

func newEndpoint(r *Registry, config EndpointConfig) (*Endpoint, error) {
	if config.Path == "" {
		if config.User == nil {
			return nil, errors.New("neither a path nor a host user is given")
		}
		return newManagedEndpoint(r, config.Name, *config.User), nil
	}
	path := filepath.Clean(config.Path)
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("path %q is not absolute", config.Path)
	}
	// A link to /run for programs of old (file-hierarchy(7)).
	if below, legacy := strings.CutPrefix(path, "/var/run/"); legacy {
		path = "/run/" + below
	}
	user := rootless.Unknown
	if config.User != nil {
		user = *config.User
	} else if owner, ok := userOfPath(path); ok {
		user = owner
	} else if owner, err := ownerOf(path); err == nil {
		user = owner
	}
	e := makeEndpoint(r, config.Name, path, user)
	e.managed = path == derivedPath(user)
	return e, nil
}

func newManagedEndpoint(r *Registry, name string, u rootless.User) *Endpoint {
	e := makeEndpoint(r, name, derivedPath(u), u)
	e.managed = true
	return e
}

func makeEndpoint(r *Registry, name, path string, user rootless.User) *Endpoint {
	e := &Endpoint{registry: r, name: name, path: path, user: user}
	owner := "host user " + user.String()
	switch {
	case user == rootless.Unknown:
		owner = path
	case path != derivedPath(user):
		owner += " at " + path
	}
	e.client = newClient(owner, r.options.Timeout, e.dial)
	return e
}

// derivedPath is where podman.socket listens, for a user (%t/podman/podman.sock) and for the system.
func derivedPath(u rootless.User) string {
	if u.IsRoot() {
		return "/run/podman/podman.sock"
	}
	return u.RuntimeDir() + "/podman/podman.sock"
}

// userOfPath is the inverse of derivedPath.
func userOfPath(path string) (rootless.User, bool) {
	var uid uint32 // root's, unless the path names another
	_, _ = fmt.Sscanf(path, "/run/user/%d/podman/podman.sock", &uid)
	user, err := rootless.LookupUID(uid)
	return user, err == nil && path == derivedPath(user)
}

// ownerOf finds the user of a socket that is not systemd's. A link on the way there is refused, since whoever may
// replace it could lead to the socket of a mightier user.
func ownerOf(path string) (rootless.User, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP {
		return rootless.Unknown, fmt.Errorf("the path of the socket %s leads over a symbolic link; name the socket by its own path", path)
	}
	if err != nil {
		return rootless.Unknown, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Close(fd)); err != nil {
		return rootless.Unknown, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return rootless.Unknown, fmt.Errorf("%s is not a socket", path)
	}
	return rootless.LookupUID(st.Uid)
}

// Name is the configured name, or the host user's when a task asked for that.
func (e *Endpoint) Name() string { return e.name }

// Path is the path of the socket.
func (e *Endpoint) Path() string { return e.path }

// User is the host user whose podman it is. It is rootless.Unknown for a configured path where no socket was seen yet.
func (e *Endpoint) User() rootless.User {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.user
}

// Rootless tells whether it is another user's podman than root's.
func (e *Endpoint) Rootless() bool { return !e.User().IsRoot() }

// Managed tells whether systemd listens at the path and can be asked to start that.
func (e *Endpoint) Managed() bool { return e.managed }

// Client speaks to the endpoint as it is, without activating it.
func (e *Endpoint) Client() *Client { return e.client }

// State is what was last seen. It does no I/O.
func (e *Endpoint) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

func (e *Endpoint) setState(change func(*State)) {
	e.mu.Lock()
	before := e.state
	change(&e.state)
	after := e.state
	e.mu.Unlock()
	if before.Active && !after.Active {
		e.registry.options.Logger.Warn("podman is not active any more", "of", e.client.owner, "socket", e.path, "error", after.Err)
	}
	if before.Active != after.Active || errorText(before.Err) != errorText(after.Err) {
		e.registry.changed(e)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// dial connects to the socket as its user. That it fails means that the endpoint is not active any more.
func (e *Endpoint) dial(ctx context.Context) (net.Conn, error) {
	conn, err := e.connect(ctx)
	if err != nil && ctx.Err() == nil {
		e.setState(func(s *State) { s.Active, s.Err = false, err })
	}
	return conn, err
}

// Owner is User, looked up now where no socket was seen yet. The error tells why that is not known.
func (e *Endpoint) Owner() (rootless.User, error) {
	if user := e.User(); user != rootless.Unknown {
		return user, nil
	}
	user, err := ownerOf(e.path)
	if err != nil {
		return rootless.Unknown, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.user = user
	return user, nil
}

func (e *Endpoint) connect(ctx context.Context) (net.Conn, error) {
	user, err := e.Owner()
	if err != nil {
		return nil, err
	}
	if err := e.registry.permit(user); err != nil {
		return nil, err
	}
	// As the user: so they cannot put a link in the way that leads to a socket of somebody else.
	return user.DialUnix(ctx, e.path)
}
