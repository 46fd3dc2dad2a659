//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
)

func TestVolumes(t *testing.T) {
	t.Run("allowed", func(t *testing.T) { testVolumes(t, labClient) })

	t.Run("forbidden", func(t *testing.T) {
		shareDirectories(t, teamA)
		must.NoError(t, os.Mkdir("/srv/e2e/share/data", 0o755))
		configureAgent(t, "no-volumes")
		j := run(t, "volumes", only("mounted", "relative"))
		must.Eq(t, "relative\n", j.succeeded(t, "relative"))
		_, state := j.dead(t, "mounted")
		must.True(t, state.Failed)
		must.StrContains(t, events(state), `config option "volumes": /srv/e2e/share`)
		must.StrContains(t, events(state), "plugin option volumes.enabled")

		t.Run("a host volume that a host user swaps", testSwappedVolume)
	})
}

// A host volume in a directory of a host user's leads nowhere else when they put a link there.
func testSwappedVolume(t *testing.T) {
	const secret = "of root, in a directory that is closed\n"
	must.NoError(t, os.WriteFile("/srv/e2e/share/data/file", []byte("shared\n"), 0o644))
	must.NoError(t, os.WriteFile("/srv/e2e/closed/inner/file", []byte(secret), 0o644))
	must.NoError(t, os.Chmod("/srv/e2e/closed/inner", 0o755))
	t.Run("before", func(t *testing.T) { must.Eq(t, "shared\n", run(t, "hostvolume").succeeded(t, "reader")) })

	_, err := teamA.as("sh", "-c", "mv /srv/e2e/share/data /srv/e2e/share/was && ln -s /srv/e2e/closed/inner /srv/e2e/share/data")
	must.NoError(t, err)
	for name, socket := range map[string]string{"rootless": "default", "rootful": "rootful"} {
		t.Run(name, func(t *testing.T) {
			j := run(t, "hostvolume", option("socket", socket))
			alloc, state := j.dead(t, "reader")
			must.True(t, state.Failed)
			must.StrContains(t, events(state), "mount for /data: /srv/e2e/share/data is a symbolic link that root does not follow, since host user team-a can change what is in /srv/e2e/share")
			must.True(t, state.StartedAt.IsZero())
			logs, err := filepath.Glob(allocDir(alloc.ID) + "/alloc/logs/reader.*.[0-9]")
			must.NoError(t, err)
			must.SliceNotEmpty(t, logs)
			for _, log := range logs {
				content, err := os.ReadFile(log)
				must.NoError(t, err)
				must.StrNotContains(t, string(content), secret)
			}
		})
	}
}

func testVolumes(t *testing.T, on client) {
	shareDirectories(t, on.tasks)
	j := run(t, "volumes", on.place)
	alloc, state := j.dead(t, "mounted")
	said := string(j.log(t, alloc, "mounted", "stdout"))
	must.False(t, state.Failed, must.Sprint(events(state)))
	must.StrHasPrefix(t, "relative\nrelative\nfrom the host\nread-only\n", said)
	must.RegexMatch(t, regex(`(?m)^tmpfs /scratch tmpfs rw,.*size=1024k,mode=750`), said)
	must.RegexMatch(t, regex(`(?m)^tmpfs /plain tmpfs rw,`), said)
	must.StrHasSuffix(t, "full\n", said)
	written, err := os.ReadFile("/srv/e2e/share/written")
	must.NoError(t, err)
	must.Eq(t, "written\n", string(written))
	written, err = os.ReadFile(on.allocDir(alloc.ID) + "/alloc/data/file")
	must.NoError(t, err)
	must.Eq(t, "written\n", string(written))

	must.Eq(t, "relative\n", j.succeeded(t, "relative"))
	_, state = j.dead(t, "closed")
	must.True(t, state.Failed)
	must.StrContains(t, events(state), "/srv/e2e/closed/inner")
	must.StrContains(t, events(state), "permission denied")
	_, state = j.dead(t, "linked")
	must.True(t, state.Failed)
	must.StrContains(t, events(state), `config option "volumes": ../alloc/data/link`)
}

// shareDirectories makes a directory of the host user's, and one that only root can look into.
func shareDirectories(t *testing.T, owner hostUser) {
	t.Helper()
	must.NoError(t, os.MkdirAll("/srv/e2e/share", 0o755))
	must.NoError(t, os.WriteFile("/srv/e2e/share/file", []byte("from the host\n"), 0o644))
	must.NoError(t, os.Chown("/srv/e2e/share", owner.uid, owner.uid))
	must.NoError(t, os.MkdirAll("/srv/e2e/closed/inner", 0o700))
	t.Cleanup(func() { must.NoError(t, os.RemoveAll("/srv/e2e")) })
}
