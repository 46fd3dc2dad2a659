package books

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// strayMonitors finds conmon processes of containers that do not run.
func strayMonitors(l *look) ([]string, error) {
	running := l.running()
	var left []string
	for _, p := range l.processes {
		if p.name != "conmon" {
			continue
		}
		id := ""
		if i := slices.IndexFunc(p.args, func(arg string) bool { return arg == "-c" || arg == "--cid" }); i >= 0 && i+1 < len(p.args) {
			id = p.args[i+1]
		}
		if _, runs := running[id]; !runs {
			left = append(left, fmt.Sprintf("%s monitors container %.12s, which does not run", p, id))
		}
	}
	return left, nil
}

// podmanServices finds podman's API service, which ends when nobody has asked it anything for some seconds.
func podmanServices(l *look) ([]string, error) {
	var left []string
	for _, p := range l.processes {
		if p.name == "podman" && p.has("system", "service") {
			left = append(left, fmt.Sprintf("%s still serves: %s", p, strings.Join(p.args, " ")))
		}
	}
	return left, nil
}

// connection is one to a podman socket.
type connection struct {
	path   string
	client string // inode number of the client's socket
}

// takeConnections asks ss(8), since /proc/net/unix does not tell who is connected to whom.
func (m *machine) takeConnections(ctx context.Context, l *look) error {
	out, err := m.command(ctx, "ss", "--unix", "--numeric", "--no-header")
	if err != nil {
		return err
	}
	l.connections = parseConnections(string(out))
	return nil
}

func parseConnections(ss string) []connection {
	var all []connection
	for line := range strings.Lines(ss) {
		// Netid State Recv-Q Send-Q, then path and inode number of both ends. The serving end has the path.
		fields := strings.Fields(line)
		if len(fields) >= 8 && strings.HasSuffix(fields[4], "/podman.sock") {
			all = append(all, connection{path: fields[4], client: fields[7]})
		}
	}
	return all
}

// podmanConnections finds connections to podman's sockets.
func podmanConnections(l *look) ([]string, error) {
	if len(l.connections) == 0 {
		return nil, nil
	}
	holders := map[string]process{}
	for _, p := range l.processes {
		held, err := l.host.descriptors(p.pid)
		if err != nil {
			return nil, err
		}
		for _, d := range held {
			holders[d.target] = p
		}
	}
	var left []string
	for _, c := range l.connections {
		whose := "nobody here"
		if p, found := holders["socket:["+c.client+"]"]; found {
			whose = p.String()
		}
		left = append(left, fmt.Sprintf("%s has a connection of %s", c.path, whose))
	}
	return left, nil
}
