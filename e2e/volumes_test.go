//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

func TestVolumes(t *testing.T) {
	t.Run("allowed", func(t *testing.T) { testVolumes(t, labClient) })

	t.Run("forbidden", func(t *testing.T) {
		shareDirectories(t, teamA)
		configureAgent(t, "no-volumes")
		j := run(t, "volumes", only("mounted", "relative"))
		must.Eq(t, "relative\n", j.succeeded(t, "relative"))
		_, state := j.dead(t, "mounted")
		must.True(t, state.Failed)
		must.StrContains(t, events(state), `config option "volumes": /srv/e2e/share`)
		must.StrContains(t, events(state), "plugin option volumes.enabled")
	})
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
