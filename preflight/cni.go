package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

var (
	// bridgePlugins are the CNI plugins with which Nomad makes a group's bridge (client/network_bridge_linux.go).
	bridgePlugins = []string{"bridge", "firewall", "host-local", "loopback", "portmap"}
	// packagedCNI is where Debian's and Fedora's packages have them.
	packagedCNI = []string{"/usr/lib/cni", "/usr/libexec/cni"}
)

// findCNI looks for the CNI plugins of group networks.
func findCNI(agent *config.Agent, self rootless.User) finding.Finding {
	const id = "cni"
	if !self.IsRoot() {
		return finding.Skip(id, finding.Host, "only an agent that runs as root makes group networks")
	}
	dirs := filepath.SplitList(agent.CNIPath)
	lacks := missing(dirs)
	if len(lacks) == 0 {
		return finding.Good(id, finding.Host, "%s", agent.CNIPath)
	}
	f := finding.Finding{ID: id, Subject: finding.Host, Status: finding.Warn,
		Seen: fmt.Sprintf("no %s in %s", strings.Join(lacks, ", "), agent.CNIPath),
		Why:  `groups with network { mode = "bridge" } and Connect cannot run`}
	for _, dir := range packagedCNI {
		if len(missing([]string{dir})) == 0 {
			f.Remedy.Advice = fmt.Sprintf("set client { cni_path = %q } in the agent's configuration", dir)
			return f
		}
	}
	f.Remedy = finding.Install("containernetworking-plugins", "containernetworking-plugins")
	if !slices.ContainsFunc(packagedCNI, func(dir string) bool { return slices.Contains(dirs, dir) }) {
		where := "client { cni_path } in the agent's configuration has to name where they are: " + strings.Join(packagedCNI, " or ")
		f.Remedy.Advice = strings.TrimPrefix(f.Remedy.Advice+"; "+where, "; ")
	}
	return f
}

// missing are the plugins that none of the directories has.
func missing(dirs []string) []string {
	return slices.DeleteFunc(slices.Clone(bridgePlugins), func(name string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool {
			st, err := os.Stat(filepath.Join(dir, name))
			return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
		})
	})
}
