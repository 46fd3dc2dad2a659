package config

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/base"
)

// DefaultSocket is the name of the endpoint that runs tasks which name none.
const DefaultSocket = "default"

// Plugin is the plugin's config block.
type Plugin struct {
	Sockets    []Socket `codec:"socket"`
	SocketPath string   `codec:"socket_path"`
	Rootless   Rootless `codec:"rootless"`
	Volumes    Volumes  `codec:"volumes"`
	Allowed
	LoggingRaw        any    `codec:"logging"`
	DisableLogs       bool   `codec:"disable_log_collection"`
	ClientHTTPTimeout string `codec:"client_http_timeout"`
	StateDir          string `codec:"state_dir"`
	GC                GC     `codec:"gc"`
	RecoverStopped    bool   `codec:"recover_stopped"`

	// ClientTimeout and Logging are ClientHTTPTimeout and LoggingRaw, parsed.
	ClientTimeout time.Duration `codec:"-"`
	Logging       Logging       `codec:"-"`
}

// Socket is a socket block: an endpoint, given by its path or by its host user.
type Socket struct {
	Name       string `codec:"name"`
	SocketPath string `codec:"socket_path"`
	HostUser   string `codec:"host_user"`
	// Namespaces are globs of the Nomad namespaces that may use it, all when empty; DefaultFor of those whose tasks it
	// runs when they name neither a socket nor a host user.
	Namespaces []string `codec:"namespaces"`
	DefaultFor []string `codec:"default_for"`
	// Allowed goes before the plugin's own.
	Allowed
}

// Allowed is what tasks may ask for beyond what every container has. What is unset follows from the other option, see
// Plugin.CheckPrivileges.
type Allowed struct {
	Privileged *bool    `codec:"allow_privileged"`
	Caps       []string `codec:"allow_caps"` // nil: unset
}

// OpenTo reports whether the jobs of a Nomad namespace may use the socket.
func (s Socket) OpenTo(namespace string) bool { return openTo(s.Namespaces, namespace) }

// IsDefaultFor reports whether it is the socket of the namespace's jobs that name none.
func (s Socket) IsDefaultFor(namespace string) bool { return matches(s.DefaultFor, namespace) }

func openTo(namespaces []string, namespace string) bool {
	return len(namespaces) == 0 || matches(namespaces, namespace)
}

func matches(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		match, err := path.Match(glob, name)
		return err == nil && match // parse has refused those with errors
	})
}

// Rootless is the rootless block: what tasks may ask of host users.
type Rootless struct {
	AllowUsers []string `codec:"allow_users"`
	// Namespaces are globs of the Nomad namespaces whose tasks may name a host user, all when empty.
	Namespaces      []string `codec:"namespaces"`
	MinUID          uint32   `codec:"min_uid"`
	Linger          bool     `codec:"linger"`
	Delegation      string   `codec:"delegation"`
	ReleaseAfterRaw string   `codec:"release_after"`
	// CPUWeight says that the slices of host users get the weight of their tasks.
	CPUWeight bool `codec:"cpu_weight"`

	// ReleaseAfter is ReleaseAfterRaw, parsed; 0: never.
	ReleaseAfter time.Duration `codec:"-"`
}

// Values of Rootless.Delegation: what happens to a task whose cpu or memory cannot be applied.
const (
	WarnDelegation    = "warn"
	RequireDelegation = "require"
)

// Volumes is the volumes block: what tasks may mount.
type Volumes struct {
	Enabled bool `codec:"enabled"`
}

// GC is the gc block: what is removed when nobody needs it any more.
type GC struct {
	Container bool     `codec:"container"`
	Dangling  Dangling `codec:"dangling_containers"`
}

// Dangling is the dangling_containers block: what happens to this node's containers that no task owns.
type Dangling struct {
	Enabled       bool   `codec:"enabled"`
	DryRun        bool   `codec:"dry_run"`
	CreationGrace string `codec:"creation_grace"`

	// Grace is CreationGrace, parsed.
	Grace time.Duration `codec:"-"`
}

// Recent reports whether what was made then may still belong to a task that Nomad has yet to tell about.
func (d Dangling) Recent(made time.Time) bool { return time.Since(made) < d.Grace }

// DecodePlugin reads the plugin's config block as Nomad hands it over (msgpack) and checks it.
func DecodePlugin(data []byte) (*Plugin, error) {
	plugin := &Plugin{}
	if err := base.MsgPackDecode(data, plugin); err != nil {
		return nil, fmt.Errorf("plugin config: %w", err)
	}
	return plugin, plugin.parse()
}

func (p *Plugin) parse() error {
	var errs []error
	wrong := func(option, format string, args ...any) {
		errs = append(errs, fmt.Errorf("plugin option %q: "+format, append([]any{option}, args...)...))
	}
	timeout, err := parseDuration(p.ClientHTTPTimeout)
	if err != nil {
		wrong("client_http_timeout", "%w", err)
	}
	p.ClientTimeout = timeout
	if p.GC.Dangling.Grace, err = parseDuration(p.GC.Dangling.CreationGrace); err != nil {
		wrong("gc.dangling_containers.creation_grace", "%w", err)
	}
	if p.Rootless.ReleaseAfterRaw != "" {
		if p.Rootless.ReleaseAfter, err = parseDuration(p.Rootless.ReleaseAfterRaw); err != nil {
			wrong("rootless.release_after", "%w", err)
		}
	}
	if p.Rootless.Delegation != WarnDelegation && p.Rootless.Delegation != RequireDelegation {
		wrong("rootless.delegation", "%q is not known; use %q or %q", p.Rootless.Delegation, WarnDelegation, RequireDelegation)
	}
	if p.Logging, err = parseLogging(p.LoggingRaw); err != nil {
		wrong("logging", "%w", err)
	}
	if p.Logging.Driver == "" {
		p.Logging.Driver = LogNomad
	}
	if p.SocketPath != "" && len(p.Sockets) > 0 {
		wrong("socket_path", "cannot stand together with socket blocks; name the path in a socket block")
	}
	if p.SocketPath, err = socketPath(p.SocketPath); err != nil {
		wrong("socket_path", "%w", err)
	}
	if err := p.checkCaps(); err != nil {
		wrong("allow_caps", "%w", err)
	}
	seen := map[string]bool{}
	defaultFor := map[string]string{}
	for i := range p.Sockets {
		socket := &p.Sockets[i]
		if socket.Name == "" {
			socket.Name = DefaultSocket
		}
		if seen[socket.Name] {
			wrong("socket", "two blocks are called %q; names must differ", socket.Name)
		}
		seen[socket.Name] = true
		if (socket.SocketPath == "") == (socket.HostUser == "") {
			wrong("socket", "%q needs one of socket_path and host_user", socket.Name)
		}
		if socket.SocketPath, err = socketPath(socket.SocketPath); err != nil {
			wrong("socket", "%q: socket_path: %w", socket.Name, err)
		}
		checkGlobs(wrong, "socket.namespaces", socket.Namespaces)
		checkGlobs(wrong, "socket.default_for", socket.DefaultFor)
		if err := socket.checkCaps(); err != nil {
			wrong("socket.allow_caps", "%q: %w", socket.Name, err)
		}
		for _, namespace := range socket.DefaultFor {
			if other, taken := defaultFor[namespace]; taken {
				wrong("socket.default_for", "%q: both %q and %q are to be its default", namespace, other, socket.Name)
			}
			defaultFor[namespace] = socket.Name
			if !strings.ContainsAny(namespace, `*?[\\`) && !socket.OpenTo(namespace) {
				wrong("socket.default_for", "%q: the namespaces of %q do not name it", namespace, socket.Name)
			}
		}
	}
	checkGlobs(wrong, "rootless.allow_users", p.Rootless.AllowUsers)
	checkGlobs(wrong, "rootless.namespaces", p.Rootless.Namespaces)
	if p.StateDir == "" {
		p.StateDir, err = defaultStateDir()
		if err != nil {
			wrong("state_dir", "%w", err)
		}
	}
	if !filepath.IsAbs(p.StateDir) {
		wrong("state_dir", "%q is not an absolute path", p.StateDir)
	}
	return errors.Join(errs...)
}

func checkGlobs(wrong func(option, format string, args ...any), option string, globs []string) {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil {
			wrong(option, "%q: %w", glob, err)
		}
	}
}

// OpenTo reports whether the tasks of a Nomad namespace may name a host user.
func (r Rootless) OpenTo(namespace string) bool { return openTo(r.Namespaces, namespace) }

// AllowsUser reports whether tasks may name this host user.
func (r Rootless) AllowsUser(name string, uid uint32) error {
	if uid == 0 {
		return errors.New("root cannot be a host user of a task; a task runs rootful with the socket option, where a socket block allows it")
	}
	if uid < r.MinUID {
		return fmt.Errorf("UID %d is below the agent's rootless.min_uid (%d)", uid, r.MinUID)
	}
	if matches(r.AllowUsers, name) {
		return nil
	}
	return fmt.Errorf("the agent's rootless.allow_users %q does not name it; add it there, or name a socket block with that host_user", r.AllowUsers)
}

// socketPath takes unix:/p, unix:///p, unix://p and plain paths.
func socketPath(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	file := strings.TrimPrefix(text, "unix:")
	if after, found := strings.CutPrefix(file, "//"); found {
		file = "/" + strings.TrimLeft(after, "/")
	}
	if !filepath.IsAbs(file) {
		return "", fmt.Errorf("%q is not the path of a unix socket; use /path or unix:///path", text)
	}
	return filepath.Clean(file), nil
}

// defaultStateDir follows file-hierarchy(7), and for an agent that is not root the XDG base directory specification.
func defaultStateDir() (string, error) {
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib", PluginName), nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, PluginName), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no state directory of this user is known: %w", err)
	}
	return filepath.Join(home, ".local", "state", PluginName), nil
}
