// Package inventory reports on the endpoints of a host, from the host's point of view: whose podman each is, whether it
// runs or could, and which Nomad namespaces may use it. It starts nothing: what it asks is there already. (Behind a
// socket that listens systemd may have to start the service that answers: podman's, or the user's D-Bus daemon.)
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

const (
	// patience is how long an endpoint's systemd, and then its podman, may take. podman may have to be started.
	patience = 15 * time.Second
	// crowd is how many endpoints are looked at together.
	crowd = 16
)

// State of an endpoint.
type State string

// The states.
const (
	Active   State = "active"   // podman answers
	Inactive State = "inactive" // nothing listens, and the driver can have it started when a task needs it
	Unusable State = "unusable" // tasks on it would fail; Record.Reason says why
)

// Record is what is known about an endpoint. Lists are never null.
type Record struct {
	// Name is what tasks call it: the name of its socket block (the option socket), or, where Namespaces is empty, of
	// its host user (the option host_user).
	Name  string `json:"name"`
	State State  `json:"state"`
	// Reason is why it is unusable, or what could not be found out about an active one.
	Reason string `json:"reason,omitempty"`
	// HostUser and UID are whose podman it is. UID is null when that is not known.
	HostUser string  `json:"host_user"`
	UID      *uint32 `json:"uid"`
	// Path of the podman API socket.
	Path string `json:"socket_path"`
	// Manager is the host user's systemd manager, null for root's podman and where the user is not known.
	Manager *Manager `json:"manager"`
	// SocketUnit is podman.socket, null where systemd does not start what listens at Path.
	SocketUnit *SocketUnit `json:"socket_unit"`
	// Controllers are the cgroup controllers delegated to the manager, for root those of the host. None without a
	// manager that runs.
	Controllers []string `json:"controllers"`
	// Podman and Tasks, the number of containers of tasks that run, are what podman says, and null when it does not.
	Podman *Podman `json:"podman"`
	Tasks  *int    `json:"tasks"`
	// Namespaces are globs of the Nomad namespaces whose tasks may name the socket, DefaultFor of those whose tasks it
	// runs when they name nothing, and Default is whether it runs those of all others, too.
	Namespaces []string `json:"namespaces"`
	DefaultFor []string `json:"default_for"`
	Default    bool     `json:"default"`
	// HostUserNamespaces are globs of the Nomad namespaces whose tasks may name the host user. Where a socket block is
	// that user's, its Namespaces must match, too.
	HostUserNamespaces []string `json:"host_user_namespaces"`
}

// Manager is a host user's systemd manager.
type Manager struct {
	Unit string `json:"unit"` // user@UID.service of the system's manager
	// State is its ActiveState (org.freedesktop.systemd1(5)), or unknown.
	State string `json:"state"`
	// Lingers is whether it runs from boot on and outlives the user's sessions (loginctl(1)).
	Lingers bool `json:"lingers"`
}

// SocketUnit is a podman.socket.
type SocketUnit struct {
	// State is its ActiveState (org.freedesktop.systemd1(5)), or unknown.
	State  string `json:"state"`
	Masked bool   `json:"masked"`
}

// Podman is the version of a podman service.
type Podman struct {
	Version    string `json:"version"`
	APIVersion string `json:"api_version"`
}

// Collect reports on the endpoints that the configuration gives this host: those of its socket blocks, in its order,
// then those of the other host users that tasks may name. A process that is not root gets its own user's only.
func Collect(ctx context.Context, plugin *config.Plugin) ([]*Record, error) {
	self, err := rootless.Self()
	if err != nil {
		return nil, err
	}
	configs, broken := plugin.Endpoints(self)
	registry, err := sockets.New(configs, sockets.Options{Timeout: plugin.ClientTimeout})
	if err != nil {
		return nil, err
	}
	var records []*Record
	var looks errgroup.Group
	looks.SetLimit(crowd)
	add := func(record *Record, endpoint *sockets.Endpoint) {
		if !self.IsRoot() && (endpoint == nil || endpoint.User().UID != self.UID) {
			return
		}
		records = append(records, record)
		if endpoint != nil {
			looks.Go(func() error { record.look(ctx, endpoint); return nil })
		}
	}

	blocks := plugin.Sockets
	if len(blocks) == 0 {
		blocks = []config.Socket{{Name: config.DefaultSocket}}
	}
	listed := map[*sockets.Endpoint]bool{}
	for _, block := range blocks {
		record := &Record{
			Name:               block.Name,
			Controllers:        []string{},
			Namespaces:         orAll(block.Namespaces),
			DefaultFor:         append([]string{}, block.DefaultFor...),
			Default:            block.Name == plugin.DefaultName(),
			HostUserNamespaces: []string{},
		}
		endpoint, found := registry.Endpoint(block.Name)
		if !found {
			record.State, record.Reason, record.HostUser = Unusable, oneLine(broken[block.Name]), block.HostUser
			add(record, nil)
			continue
		}
		listed[endpoint] = true
		if user := endpoint.User(); registry.ForUser(user) == endpoint && plugin.Rootless.AllowsUser(user.Name, user.UID) == nil {
			record.HostUserNamespaces = orAll(plugin.Rootless.Namespaces)
		}
		add(record, endpoint)
	}
	users, err := rootless.Users()
	for _, user := range users {
		if plugin.Rootless.AllowsUser(user.Name, user.UID) != nil {
			continue
		}
		if endpoint := registry.ForUser(user); !listed[endpoint] {
			add(&Record{
				Name:               user.Name,
				Controllers:        []string{},
				Namespaces:         []string{},
				DefaultFor:         []string{},
				HostUserNamespaces: orAll(plugin.Rootless.Namespaces),
			}, endpoint)
		}
	}
	return records, errors.Join(err, looks.Wait(), registry.Close())
}

// orAll is the globs as they stand for themselves: none means all.
func orAll(globs []string) []string {
	if len(globs) == 0 {
		return []string{"*"}
	}
	return globs
}

// look fills in what is found on the host.
func (r *Record) look(ctx context.Context, endpoint *sockets.Endpoint) {
	r.Path = endpoint.Path()
	check := endpoint.CheckActivatable(ctx)
	units, unitsErr := askSystemd(ctx, endpoint)
	err := r.askPodman(ctx, endpoint)
	if endpoint.Managed() && nothingListens(err) {
		err = nil
	}

	if user := endpoint.User(); user != rootless.Unknown {
		r.HostUser, r.UID = user.Name, &user.UID
		if !user.IsRoot() {
			r.Manager = &Manager{fmt.Sprintf("user@%d.service", user.UID), cmp.Or(units.Manager, "unknown"), units.Lingers}
		}
		// None where the manager does not run, or nothing can be delegated.
		if delegation, err := cgroupv2.DelegatedTo(user.Name, user.UID); err == nil {
			r.Controllers = append(r.Controllers, delegation.Controllers...)
		}
	}
	if endpoint.Managed() {
		r.SocketUnit = &SocketUnit{cmp.Or(units.Socket, "unknown"), units.Masked != nil}
	}

	problem := first(check, units.Masked, err)
	switch {
	case problem != nil:
		r.State = Unusable
	case r.Podman != nil:
		r.State, problem = Active, unitsErr
	case unitsErr != nil:
		r.State, problem = Unusable, unitsErr
	default:
		r.State = Inactive
	}
	r.Reason = oneLine(problem)
}

func askSystemd(ctx context.Context, endpoint *sockets.Endpoint) (sockets.Units, error) {
	ctx, cancel := within(ctx, "systemd")
	defer cancel()
	return endpoint.Units(ctx)
}

// askPodman asks what listens for its version and its containers.
func (r *Record) askPodman(ctx context.Context, endpoint *sockets.Endpoint) error {
	ctx, cancel := within(ctx, "podman")
	defer cancel()
	info, err := endpoint.Client().Info(ctx)
	if err != nil {
		return err
	}
	r.Podman = &Podman{info.Version, info.APIVersion}
	containers, err := endpoint.Client().List(ctx, nil)
	if err != nil {
		return err
	}
	tasks := 0
	for _, container := range containers {
		if container.State == "running" && container.Labels[spec.LabelAllocID] != "" {
			tasks++
		}
	}
	r.Tasks = &tasks
	return nil
}

func within(ctx context.Context, who string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s did not answer within %s: %w", who, patience, context.DeadlineExceeded))
}

// nothingListens tells whether a connection failed since the socket is not there, or nobody's any more.
func nothingListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func first(errs ...error) error {
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// oneLine is an error's text for a cell or a line.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
