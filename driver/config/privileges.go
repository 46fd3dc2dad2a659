package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containers/common/pkg/capabilities"
	podman "github.com/containers/common/pkg/config"
)

// Asked is what a job asks for that the agent's configuration decides on, besides its socket.
type Asked struct {
	HostUser   string // as the job calls them; empty: it is on a socket
	Privileged bool
	CapAdd     []string
}

// Asked is that of a task.
func (t *Task) Asked() Asked {
	return Asked{HostUser: t.HostUser, Privileged: t.Privileged, CapAdd: t.CapAdd}
}

// CheckPrivileges refuses what tasks may not ask for on a socket block; a block without a name stands for endpoints that
// have none. Where only one of allow_privileged and allow_caps is set, it decides about both, since a privileged container
// has every capability, and with enough of them a container is as good as privileged.
func (p *Plugin) CheckPrivileges(asked Asked, block Socket) error {
	privileged, privilegedBy := p.Privileged, `plugin option allow_privileged`
	if block.Privileged != nil {
		privileged, privilegedBy = block.Privileged, fmt.Sprintf(`plugin option socket.allow_privileged of %q`, block.Name)
	}
	caps, capsBy := p.Caps, `plugin option allow_caps`
	if block.Caps != nil {
		caps, capsBy = block.Caps, fmt.Sprintf(`plugin option socket.allow_caps of %q`, block.Name)
	}
	var errs []error
	switch {
	case !asked.Privileged:
	case privileged == nil && caps != nil && !allows(caps, capabilities.All):
		errs = append(errs, fmt.Errorf("config option %q: it gives every capability, and only %q are allowed on this socket "+
			"(%s; allow_privileged can allow it nevertheless)", "privileged", caps, capsBy))
	case privileged != nil && !*privileged:
		errs = append(errs, fmt.Errorf("config option %q: it is not allowed on this socket (%s)", "privileged", privilegedBy))
	}
	more := ""
	if caps == nil && privileged != nil && !*privileged {
		caps, capsBy, more = podman.DefaultCapabilities, privilegedBy, "; allow_caps can allow others"
	}
	refused := slices.DeleteFunc(slices.Clone(asked.CapAdd), func(name string) bool { return caps == nil || allows(caps, name) })
	if len(refused) > 0 {
		errs = append(errs, fmt.Errorf("config option %q: %q are not allowed on this socket, only %q (%s%s)",
			"cap_add", refused, caps, capsBy, more))
	}
	return errors.Join(errs...)
}

// allows tells whether a list of capabilities has one, or all.
func allows(caps []string, name string) bool {
	return slices.ContainsFunc(caps, func(allowed string) bool {
		allowed = capName(allowed)
		return allowed == capabilities.All || allowed == capName(name)
	})
}

// capName is a capability as podman understands it: in capital letters, and CAP_ in front or not.
func capName(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// checkCaps refuses names that no job's capability could have.
func (a Allowed) checkCaps() error {
	_, err := capabilities.NormalizeCapabilities(a.Caps)
	return err
}
