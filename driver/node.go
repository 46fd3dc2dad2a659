package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/hashicorp/go-hclog"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/logs"
	"nomad-driver-podman/postmortem"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// node is what the agent's configuration makes of this host: its endpoints and the log process. It never changes;
// another configuration makes another one.
type node struct {
	config   *config.Plugin
	registry *sockets.Registry
	logs     *logs.Client
	// ensureLogs makes sure that the log process runs, with this plugin's binary.
	ensureLogs func(context.Context) error
	self       rootless.User
	// broken are the socket blocks that cannot become an endpoint. They fail the tasks that name them and show in the
	// fingerprint, and leave the rest of the node alone.
	broken  map[string]error
	intents intents
	allocs  allocNotes
	// postmortems are the records of tasks that have ended badly.
	postmortems *postmortem.Store

	// ctx ends with close, which waits for what works in the background.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	// destroyed wakes the reconciler.
	destroyed chan struct{}
	strays    time.Time // when it has last looked for containers without a task
	renewLogs sync.Once

	mu sync.Mutex
	id string // Nomad's of this node, once a task has told
}

func newNode(plugin *config.Plugin, logger hclog.Logger, changed func()) (*node, error) {
	self, err := rootless.Self()
	if err != nil {
		return nil, err
	}
	endpoints, broken := plugin.Endpoints(self)
	for name, err := range broken {
		logger.Error("a socket block cannot be used", "socket", name, "error", err)
	}
	node := &node{config: plugin, self: self, broken: broken}
	node.registry, err = sockets.New(endpoints, sockets.Options{
		Linger:       plugin.Rootless.Linger,
		ReleaseAfter: plugin.Rootless.ReleaseAfter,
		StateDir:     plugin.StateDir,
		Timeout:      plugin.ClientTimeout,
		Logger:       logger,
		OnChange:     func(*sockets.Endpoint) { changed() },
	})
	if err != nil {
		return nil, err
	}
	node.intents.dir = filepath.Join(plugin.StateDir, "intents")
	node.allocs.dir = filepath.Join(plugin.StateDir, "allocs")
	for _, dir := range []string{node.intents.dir, node.allocs.dir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("plugin option %q: %w", "state_dir", err)
		}
	}
	node.postmortems = postmortem.In(plugin.StateDir)
	node.logs, node.ensureLogs = logs.NewClient(node.logSocket()), node.superviseLogs
	node.destroyed = make(chan struct{}, 1)
	node.ctx, node.cancel = context.WithCancel(context.Background())
	return node, nil
}

func (n *node) close(logger hclog.Logger) {
	n.cancel()
	n.background.Wait()
	if err := n.registry.Close(); err != nil {
		logger.Warn("closing endpoints", "error", err)
	}
}

// wakeReconciler has the reconciler look for what is left.
func (n *node) wakeReconciler() {
	select {
	case n.destroyed <- struct{}{}:
	default: // it is about to look anyway
	}
}

// learnID keeps Nomad's ID of this node, which the driver gets to know with its tasks.
func (n *node) learnID(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id != "" {
		n.id = id
	}
}

func (n *node) nodeID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// route finds the endpoint of a task: the one it names, that of the host user it names, the one that is the default for
// its Nomad namespace, or the default one. It never falls back from one to another, and refuses what the task may not use,
// or may not ask for there.
func (n *node) route(task *config.Task, namespace string) (*sockets.Endpoint, error) {
	if task.HostUser != "" {
		return n.ofUser(task, namespace)
	}
	name, before, after := task.Socket, `config option "socket": `, ""
	if name == "" {
		name, before, after = n.defaultFor(namespace), "the default socket ", "; name another with the option socket"
	}
	endpoint, err := n.named("socket", name)
	if err != nil {
		return nil, err
	}
	blocks, err := n.mayUse(namespace, place{socket: name, user: endpoint.User()})
	if err != nil {
		return nil, fmt.Errorf("%s%w%s", before, err, after)
	}
	if err := n.checkPrivileges(task.Asked(), blocks); err != nil {
		return nil, err
	}
	return endpoint, nil
}

// ofUser is the endpoint of a host user that a task names.
func (n *node) ofUser(task *config.Task, namespace string) (*sockets.Endpoint, error) {
	user, err := rootless.Lookup(task.HostUser)
	var blocks []config.Socket
	if err == nil {
		blocks, err = n.mayUse(namespace, place{user: user, calledBy: task.HostUser})
	}
	if err != nil {
		return nil, fmt.Errorf("config option %q: %w", "host_user", err)
	}
	if err := n.checkPrivileges(task.Asked(), blocks); err != nil {
		return nil, err
	}
	return n.registry.ForUser(user), nil
}

// defaultFor is the name of the endpoint for the tasks of a namespace that name none.
func (n *node) defaultFor(namespace string) string {
	for _, block := range n.config.Sockets {
		if block.IsDefaultFor(namespace) {
			return block.Name
		}
	}
	return n.config.DefaultName()
}

func (n *node) named(option, name string) (*sockets.Endpoint, error) {
	if err, found := n.broken[name]; found {
		return nil, err
	}
	if endpoint, found := n.registry.Endpoint(name); found {
		return endpoint, nil
	}
	var known []string
	for _, endpoint := range n.registry.Endpoints() {
		known = append(known, endpoint.Name())
	}
	return nil, fmt.Errorf("config option %q: no socket block is called %q; this node has %q", option, name, known)
}

// superviseLogs has systemd run the log process.
func (n *node) superviseLogs(ctx context.Context) error {
	_, err := logs.Ensure(ctx, serviceManager{n.self}, n.logSocket(), filepath.Join(n.config.StateDir, "logs"))
	return err
}

// serviceManager is the systemd that supervises the log process: the system's for root, else the agent's own user's.
// It connects for each of the few calls that a node ever makes.
type serviceManager struct{ self rootless.User }

func (m serviceManager) StartTransient(ctx context.Context, name string, props []dbus.Property) error {
	return m.call(ctx, func(systemd *sockets.Systemd) error { return systemd.StartTransient(ctx, name, props) })
}

func (m serviceManager) RestartUnit(ctx context.Context, name string) error {
	return m.call(ctx, func(systemd *sockets.Systemd) error { return systemd.RestartUnit(ctx, name) })
}

func (m serviceManager) call(ctx context.Context, do func(*sockets.Systemd) error) error {
	connect := sockets.ConnectSystem
	if !m.self.IsRoot() {
		connect = func(ctx context.Context) (*sockets.Systemd, error) { return sockets.ConnectUser(ctx, m.self) }
	}
	systemd, err := connect(ctx)
	if err != nil {
		return err
	}
	defer systemd.Close()
	return do(systemd)
}

// logSocket is the log process' control socket.
func (n *node) logSocket() string {
	if n.self.IsRoot() {
		return "/run/nomad-podman/logs/control.sock"
	}
	return filepath.Join(n.self.RuntimeDir(), "nomad-podman", "logs", "control.sock")
}

// errNotConfigured is the answer to calls before SetConfig.
var errNotConfigured = errors.New("the driver has no configuration yet")

// Deadlines of what the driver waits for. They are generous: they end what hangs, not what is slow.
const (
	startTimeout   = 5 * time.Minute
	collectTimeout = 2 * time.Minute
	finishTimeout  = 2 * time.Minute
	removeTimeout  = 2 * time.Minute
	execEndTimeout = time.Minute
)
