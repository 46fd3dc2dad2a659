package spec

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/containers/common/libnetwork/types"
	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/hashicorp/nomad/nomad/structs"
)

// network is the namespace, the published ports and name resolution.
func network(spec *Spec, in Input) error {
	if err := dns(spec, in); err != nil {
		return err
	}
	if isolation := in.Task.NetworkIsolation; isolation != nil && isolation.Path != "" {
		if in.Rootless {
			return errors.New(`network: tasks of a rootless endpoint cannot join the group's network namespace yet; leave out the group's network mode, or run the task on a rootful socket`)
		}
		spec.NetNS = specgen.Namespace{NSMode: specgen.Path, Value: isolation.Path}
		return nil
	}
	mode, options, _ := strings.Cut(in.Config.NetworkMode, ":")
	if mode == "" {
		mode = string(specgen.Private)
	}
	if mode == string(specgen.Pasta) && !in.Rootless {
		return errors.New(`config option "network_mode": pasta is for rootless endpoints only; use bridge`)
	}
	spec.NetNS = specgen.Namespace{NSMode: specgen.NamespaceMode(mode)}
	if options != "" {
		spec.NetworkOptions = map[string][]string{mode: strings.Split(options, ",")}
	}
	return ports(spec, in, mode)
}

// ports publishes what the job asks for, each port for tcp and udp.
func ports(spec *Spec, in Input, mode string) error {
	published, err := selectPorts(in)
	if err != nil {
		return err
	}
	if mode == string(specgen.Host) {
		return nil // there the task listens on the host's ports itself
	}
	if len(published) > 0 && mode == string(specgen.NoNetwork) {
		return errors.New(`config option "network_mode": a container without a network ("none") cannot publish ports`)
	}
	spec.PortMap = map[string]int{}
	for _, port := range published {
		spec.PortMap[port.Label] = port.To
		for _, protocol := range []string{"tcp", "udp"} {
			spec.PortMappings = append(spec.PortMappings, types.PortMapping{
				HostIP:        port.HostIP,
				HostPort:      uint16(port.Value), //nolint:gosec // Nomad has checked its ports
				ContainerPort: uint16(port.To),    //nolint:gosec // the same
				Protocol:      protocol,
			})
		}
	}
	return nil
}

// selectPorts finds the ports that the config block names, with the container's port in To.
func selectPorts(in Input) ([]structs.AllocatedPortMapping, error) {
	cfg := in.Config
	if len(cfg.Ports) > 0 {
		if in.Task.Resources == nil || in.Task.Resources.Ports == nil || len(*in.Task.Resources.Ports) == 0 {
			return nil, fmt.Errorf("config option \"ports\": %q needs a network block with these ports in the group", cfg.Ports)
		}
		var ports []structs.AllocatedPortMapping
		for _, label := range cfg.Ports {
			port, found := in.Task.Resources.Ports.Get(label)
			if !found {
				return nil, fmt.Errorf("config option \"ports\": the group's network block has no port %q", label)
			}
			if port.To == 0 {
				port.To = port.Value
			}
			ports = append(ports, port)
		}
		return ports, nil
	}
	if len(cfg.PortMap) == 0 {
		return nil, nil
	}
	if in.Task.Resources == nil || in.Task.Resources.NomadResources == nil || len(in.Task.Resources.NomadResources.Networks) == 0 {
		return nil, errors.New(`config option "port_map": needs a network block in the task's resources; with a group network use "ports"`)
	}
	network := in.Task.Resources.NomadResources.Networks[0]
	labels := network.PortLabels()
	for label := range cfg.PortMap {
		if _, found := labels[label]; !found {
			return nil, fmt.Errorf("config option \"port_map\": the task's network block has no port %q", label)
		}
	}
	var ports []structs.AllocatedPortMapping
	for label, value := range labels {
		to, mapped := cfg.PortMap[label]
		if !mapped {
			to = value
		}
		ports = append(ports, structs.AllocatedPortMapping{Label: label, Value: value, To: to, HostIP: network.IP})
	}
	return ports, nil
}

// dns applies the group's dns block.
func dns(spec *Spec, in Input) error {
	if in.Task.DNS == nil {
		return nil
	}
	for _, server := range in.Task.DNS.Servers {
		ip := net.ParseIP(server)
		if ip == nil {
			return fmt.Errorf("dns: server %q is not an IP address", server)
		}
		spec.DNSServers = append(spec.DNSServers, ip)
	}
	spec.DNSSearch = in.Task.DNS.Searches
	spec.DNSOptions = in.Task.DNS.Options
	return nil
}
