package books

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// strayNamespaces finds named network namespaces without a running container or an allocation.
func strayNamespaces(l *look) ([]string, error) {
	used := l.networkPlaces()
	var left []string
	for _, pattern := range []string{"/run/netns/*", "/run/user/*/netns/*", "/run/user/*/containers/networks/rootless-netns/rootless-netns"} {
		paths, err := l.host.glob(pattern)
		if err != nil {
			return left, err
		}
		for _, path := range paths {
			// Nomad names those of groups by the allocation.
			if !used.has(path) && !l.allocs[filepath.Base(path)] {
				left = append(left, fmt.Sprintf("%s is of no running container", path))
			}
		}
	}
	return left, nil
}

// places are paths, and directories with all below them, that ends in "/" or a "-".
type places []string

func (p places) has(path string) bool {
	return slices.ContainsFunc(p, func(place string) bool {
		return path == place || strings.HasSuffix(place, "/") && strings.HasPrefix(path, place)
	})
}

// networkPlaces are the names by which podman and its helpers call running containers' network namespaces.
func (l *look) networkPlaces() places {
	var used places
	for _, c := range l.running() {
		pid := strconv.Itoa(c.State.Pid)
		// slirp4netns(1) gets a PID when the container has a user namespace of its own.
		used = append(used, c.NetworkSettings.SandboxKey, "/proc/"+pid+"/ns/net", pid)
		if c.HostConfig.NetworkMode != "bridge" {
			continue
		}
		// One namespace for all bridge networks of a user.
		used = append(used, c.owner.networks()+"/")
		if c.owner.uid != 0 {
			older, _ := l.host.glob(c.owner.runtimeDir() + "/netns/rootless-netns*") // of podman 4
			used = append(used, older...)
		}
	}
	return used
}

// strayHelpers finds processes that carry the traffic of containers that are gone.
func strayHelpers(l *look) ([]string, error) {
	used := l.networkPlaces()
	containers := map[string]bool{} // network namespaces
	for _, c := range l.running() {
		containers[l.host.namespace(c.State.Pid, "net")] = true
	}
	var left []string
	for _, p := range l.processes {
		serves := true
		switch p.name {
		case "pasta", "slirp4netns", "aardvark-dns":
			serves = slices.ContainsFunc(p.args, used.has)
		case "rootlessport":
			// Its child lives in the container's network namespace.
			serves = slices.ContainsFunc(l.processes, func(child process) bool {
				return child.parent == p.pid && containers[l.host.namespace(child.pid, "net")]
			})
		case "rootlessport-child":
			serves = containers[l.host.namespace(p.pid, "net")]
		}
		if !serves {
			left = append(left, fmt.Sprintf("%s serves no running container: %s", p, strings.Join(p.args, " ")))
		}
	}
	return left, nil
}
