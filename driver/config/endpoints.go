package config

import (
	"fmt"

	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// Endpoints are the endpoints that the configuration names. Without socket blocks the agent's own user, self, has one:
// the rootful podman when that is root. Broken are the socket blocks, by name, that cannot become an endpoint, such as
// those of an unknown user.
func (p *Plugin) Endpoints(self rootless.User) (endpoints []sockets.EndpointConfig, broken map[string]error) {
	broken = map[string]error{}
	if len(p.Sockets) == 0 {
		endpoint := sockets.EndpointConfig{Name: DefaultSocket, Path: p.SocketPath}
		if endpoint.Path == "" {
			endpoint.User = &self
		}
		return []sockets.EndpointConfig{endpoint}, broken
	}
	for _, socket := range p.Sockets {
		endpoint := sockets.EndpointConfig{Name: socket.Name, Path: socket.SocketPath}
		if socket.HostUser != "" {
			user, err := rootless.Lookup(socket.HostUser)
			if err != nil {
				broken[socket.Name] = fmt.Errorf("socket %q: %w", socket.Name, err)
				continue
			}
			endpoint.User = &user
		}
		endpoints = append(endpoints, endpoint)
	}
	return endpoints, broken
}

// DefaultName is the name of the endpoint for tasks that name none, in namespaces that have no default of their own.
func (p *Plugin) DefaultName() string {
	for _, socket := range p.Sockets {
		if socket.Name == DefaultSocket {
			return socket.Name
		}
	}
	if len(p.Sockets) > 0 {
		return p.Sockets[0].Name
	}
	return DefaultSocket
}
