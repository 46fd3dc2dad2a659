package preflight

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/selinux"
	"nomad-driver-podman/sockets"
)

// agentUnit is what Nomad's packages call the agent's unit.
const agentUnit = "nomad.service"

// needsRoot is why something of another user is not looked at.
const needsRoot = "needs root"

// subjects collects whom to look at.
type subjects struct {
	options  Options
	self     rootless.User
	registry *sockets.Registry
	trouble  []finding.Finding // with the configuration
	groups   []group
	endpoint map[*sockets.Endpoint]bool // that are looked at already
	user     map[uint32]bool            // by UID
	rootless bool                       // whether host users are to have containers

	// idsTurn is for a look at IDs that was left behind, and may be at it still.
	idsTurn sync.Mutex
	ids     rootless.SubordinateIDs
}

// newSubjects makes the groups of looks at the host, then those at each endpoint and user. When all looks are made, the
// registry is to be closed.
func newSubjects(o Options) *subjects {
	plugin := o.Agent.Plugin
	s := &subjects{options: o, endpoint: map[*sockets.Endpoint]bool{}, user: map[uint32]bool{}}
	var err error
	if s.self, err = rootless.Self(); err != nil {
		s.self = rootless.Unknown
		s.trouble = append(s.trouble, finding.Unknown(idConfiguration, finding.Host, err))
	}
	configs, broken := plugin.Endpoints(s.self)
	s.registry, err = sockets.New(configs, sockets.Options{
		Timeout: plugin.ClientTimeout, Linger: plugin.Rootless.Linger, ReleaseAfter: plugin.Rootless.ReleaseAfter,
	})
	if err != nil {
		s.trouble = append(s.trouble, wrongConfiguration(err))
		configs, broken = nil, nil
		s.registry, _ = sockets.New(nil, sockets.Options{}) // without an endpoint there is nothing to go wrong
	}
	for _, block := range plugin.Sockets {
		if reason, is := broken[block.Name]; is {
			s.addBroken(block, reason)
		} else if endpoint, found := s.registry.Endpoint(block.Name); found {
			s.addEndpoint(endpoint, block.Name, nil)
		}
	}
	if len(plugin.Sockets) == 0 && len(configs) > 0 {
		s.addEndpoint(s.registry.Endpoints()[0], config.DefaultSocket, nil)
	}
	for _, name := range slices.Concat(named(plugin.Rootless.AllowUsers), o.Users) {
		s.addUser(name)
	}
	s.groups = slices.Concat([]group{{looks: s.hostLooks()}}, s.groups)
	return s
}

// named are the users that the globs of allow_users name outright. Which others there may be, nobody can tell.
func named(globs []string) []string {
	return slices.DeleteFunc(slices.Clone(globs), func(glob string) bool { return strings.ContainsAny(glob, `*?[\`) })
}

// hostLooks are the looks at what all users share.
func (s *subjects) hostLooks() []look {
	host := finding.Host
	// What only host users' containers need.
	ofUsers := func(id string, find func() finding.Finding) look {
		if s.rootless {
			return one(id, host, find)
		}
		return one(id, host, func() finding.Finding { return finding.Skip(id, host, "no host user has containers here") })
	}
	agent := s.options.Agent
	return []look{
		one("kernel", host, findKernel),
		one("cgroup-mode", host, func() finding.Finding { return cgroupv2.FindMode(s.rootless) }),
		several(host, func(ctx context.Context) []finding.Finding { return sockets.FindSystemd(ctx, s.rootless) }, "systemd", "bus"),
		ofUsers("user-namespaces", rootless.FindNamespaces),
		ofUsers("id-helpers", rootless.FindIDHelpers),
		several(host, func(ctx context.Context) []finding.Finding { return sockets.FindPrograms(ctx, s.rootless) },
			"podman", "conmon", "oci-runtime", "network-helper"),
		several(host, func(context.Context) []finding.Finding { return selinux.FindState() }, "mandatory-access"),
		several(host, func(ctx context.Context) []finding.Finding { return sockets.FindAgentUnit(ctx, agentUnit) }, "agent-unit"),
		one("data-dir", host, func() finding.Finding { return findDataDir(agent, s.self) }),
		several(host, func(ctx context.Context) []finding.Finding {
			return []finding.Finding{findPlugin(ctx, agent, s.self, s.options.Version, rootless.OnlyRootChanges)}
		}, "plugin"),
		one("nomad-cgroups", host, func() finding.Finding { return findNomadCgroups(cgroupRoot, agent, s.self, ownedBy(s.self)) }),
		one("cni", host, func() finding.Finding { return findCNI(agent, s.self) }),
		ofUsers("idmapped-mounts", func() finding.Finding { return findIDMaps(s.self) }),
		one("state-dir", host, func() finding.Finding { return findStateDir(agent.Plugin.StateDir, s.self) }),
	}
}

// addBroken adds a socket block that cannot become an endpoint.
func (s *subjects) addBroken(block config.Socket, reason error) {
	s.rootless = true // only blocks that name a host user can be broken
	s.groups = append(s.groups, group{looks: []look{one("socket", block.Name, func() finding.Finding {
		f := finding.Finding{ID: "socket", Subject: block.Name, Status: finding.Fail, Seen: reason.Error(), Cause: reason,
			Why: "tasks on this socket fail"}
		if errors.Is(reason, rootless.ErrUnknownUser) {
			_, account := rootless.FindAccount(block.HostUser)
			f.Seen, f.Remedy = "its host_user is "+block.HostUser+", whom this host does not know", account.Remedy
		}
		return f
	})}})
}

// addEndpoint adds an endpoint and its user, once. socket is the name by which tasks find it; empty: by its user's.
// refused is why they may not; nil: they may.
func (s *subjects) addEndpoint(endpoint *sockets.Endpoint, socket string, refused error) {
	if s.endpoint[endpoint] {
		return
	}
	s.endpoint[endpoint] = true
	user := endpoint.User()
	if !s.self.IsRoot() && user.UID != s.self.UID {
		s.skip("socket", endpoint.Name())
		return
	}
	g := group{user: user}
	if user != rootless.Unknown {
		g.run = func(ctx context.Context) error {
			return s.options.RunTest(ctx, s.options.Agent.Plugin, user, socket, s.options.Version)
		}
		s.rootless = s.rootless || !user.IsRoot()
		if !s.user[user.UID] {
			s.user[user.UID] = true
			g.looks = s.userLooks(user, endpoint, refused)
		}
	}
	g.looks = append(g.looks, endpointLook(endpoint))
	s.groups = append(s.groups, g)
}

// addUser adds a host user whom tasks may name.
func (s *subjects) addUser(name string) {
	if !s.self.IsRoot() && name != s.self.Name {
		s.skip("account", name)
		return
	}
	user, account := rootless.FindAccount(name)
	if user == rootless.Unknown {
		s.rootless = true
		s.groups = append(s.groups, group{looks: []look{one("account", name, func() finding.Finding { return account })}})
		return
	}
	var refused error
	if !s.user[user.UID] { // no socket block names them
		refused = s.options.Agent.Plugin.Rootless.AllowsUser(user.Name, user.UID)
	}
	s.addEndpoint(s.registry.ForUser(user), "", refused)
}

func (s *subjects) skip(id, subject string) {
	s.groups = append(s.groups, group{looks: []look{one(id, subject, func() finding.Finding { return finding.Skip(id, subject, needsRoot) })}})
}

// endpointLook is the look at an endpoint: at its user's manager and socket where it has one, and at its podman.
func endpointLook(endpoint *sockets.Endpoint) look {
	subject, ids := endpoint.Name(), []string{"socket"}
	if endpoint.Managed() {
		subject, ids = endpoint.User().String(), []string{"podman-socket"}
		if endpoint.Rootless() {
			ids = []string{"manager", "lingering", "podman-socket"}
		}
	}
	if !endpoint.Rootless() {
		ids = append(ids, "socket-access")
	}
	l := several(subject, endpoint.Find, append(ids, "api", "storage", "database")...)
	l.patience = apiPatience
	return l
}

// userLooks are the looks at the user of an endpoint, apart from their podman. refused is why no task may name the user,
// or nil.
func (s *subjects) userLooks(user rootless.User, endpoint *sockets.Endpoint, refused error) []look {
	name := user.String()
	ids := one("subordinate-ids", name, func() finding.Finding {
		s.idsTurn.Lock()
		defer s.idsTurn.Unlock()
		return s.ids.Find(user)
	})
	ids.inTurn = true // each user is proposed a range of their own, the same one at each look
	return []look{
		one("account", name, func() finding.Finding { return findAccount(name, refused) }),
		one("home", name, user.FindHome),
		one("staging", name, func() finding.Finding {
			if !s.self.IsRoot() {
				return finding.Skip("staging", name, "an agent of this user's own shows nothing to others")
			}
			return user.FindStaging()
		}),
		one("space", name, user.FindSpace),
		ids,
		several(name, func(ctx context.Context) []finding.Finding {
			units, _ := endpoint.Units(ctx) // without the directory it cannot tell all, but that the manager runs
			return []finding.Finding{user.FindRuntimeDir(units.Manager == "active")}
		}, "runtime-dir"),
		one("delegation", name, func() finding.Finding { return cgroupv2.FindDelegation(name, user.UID) }),
		one("containers-conf", name, user.FindContainersConf),
		one("storage-conf", name, user.FindStorageConf),
		one("registries-conf", name, user.FindRegistriesConf),
	}
}

// findAccount looks at the account of a host user, whom tasks may not name if the configuration has refused them.
func findAccount(name string, refused error) finding.Finding {
	_, f := rootless.FindAccount(name)
	if refused != nil && f.Status == finding.OK {
		f.Status, f.Cause = finding.Warn, refused
		f.Seen += "; " + refused.Error()
		f.Why = "no task may name this host user"
	}
	return f
}
