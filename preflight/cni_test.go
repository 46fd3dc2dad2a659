package preflight

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

func TestCNI(t *testing.T) {
	packaged := packagedCNI
	t.Cleanup(func() { packagedCNI = packaged })
	packagedCNI = []string{filepath.Join(t.TempDir(), "none")}

	one, two := t.TempDir(), t.TempDir()
	for i, name := range bridgePlugins {
		must.NoError(t, os.WriteFile(filepath.Join([]string{one, two}[i%2], name), nil, 0o755))
	}
	root := rootless.User{Name: "root"}
	find := func(path string) finding.Finding { return findCNI(&config.Agent{CNIPath: path}, root) }

	must.Eq(t, finding.OK, find(one+":"+two).Status)
	half := find(one)
	must.Eq(t, finding.Warn, half.Status)
	must.Eq(t, "no firewall, loopback in "+one, half.Seen)
	must.False(t, half.Remedy.Safe)
	must.StrContains(t, half.Remedy.Advice, packagedCNI[0])
	must.StrNotContains(t, find(packagedCNI[0]).Remedy.Advice, "cni_path") // they come to where they are looked for

	// They are there, only not where the agent looks.
	must.NoError(t, os.WriteFile(filepath.Join(two, "bridge"), nil, 0o755))
	must.NoError(t, os.WriteFile(filepath.Join(two, "host-local"), nil, 0o755))
	must.NoError(t, os.WriteFile(filepath.Join(two, "portmap"), nil, 0o755))
	packagedCNI = []string{two}
	elsewhere := find(one)
	must.SliceEmpty(t, elsewhere.Remedy.Commands)
	must.StrContains(t, elsewhere.Remedy.Advice, two)

	must.NoError(t, os.Chmod(filepath.Join(two, "bridge"), 0o644))
	must.Eq(t, "no bridge in "+two, find(two).Seen)
	must.Eq(t, finding.Skipped, findCNI(&config.Agent{CNIPath: one}, rootless.User{Name: "team-a", UID: 2001}).Status)
}
