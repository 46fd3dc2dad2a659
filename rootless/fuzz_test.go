package rootless

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containers/common/pkg/config"
	"github.com/containers/storage/types"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
	"nomad-driver-podman/fuzz"
)

const (
	// perByte is what a byte of a settings file may cost: a key takes two, and is kept with all tables that it is in.
	perByte = 8 << 10
	// maxSeen is how long a text of a finding's may be, bytes: what of a few files is wrong, with their paths.
	maxSeen = 2 << 10
)

// settingsFile is where a host user has these settings.
func settingsFile(f *testing.F, name string) (u User, path string) {
	f.Helper()
	u = User{Name: "team-a", UID: nobody.UID, GID: nobody.GID, Home: filepath.Join(openDir(f), "home")}
	if os.Geteuid() != 0 {
		u.UID, u.GID = uint32(os.Geteuid()), uint32(os.Getegid())
	}
	path = u.own(name)
	must.NoError(f, os.MkdirAll(filepath.Dir(path), 0o755))
	return u, path
}

// shown makes sure that what a host user wrote cannot spoil what root is shown, and what root is told to run.
func shown(t *testing.T, found finding.Finding) {
	t.Helper()
	fuzz.Line(t, found.Seen, maxSeen)
	fuzz.Line(t, found.Why, maxSeen)
	fuzz.Line(t, found.Remedy.Advice, maxSeen)
	for _, command := range found.Remedy.Commands {
		fuzz.Line(t, command, maxSeen)
	}
	must.Eq(t, found.Status == finding.OK, found.Remedy.IsZero() && found.Why == "")
	must.False(t, found.Remedy.Safe)
}

// FuzzSettings writes the same again and again, with a number for each N: what a user's file costs to read has a limit.
func FuzzSettings(f *testing.F) {
	f.Add("a = ", "[", uint16(60000), "]")
	f.Add("a = ", "{a=", uint16(5000), "1")
	f.Add("a = ", "[\n{"+strings.Repeat("a.", 90)+"a = ", uint16(80), "1")
	f.Add("", "a.", uint16(8000), "a = 1")
	f.Add("["+strings.Repeat("x", 8000)+"]", "\na = 1", uint16(1000), "")
	f.Add("a = '''", "\n#''' [", uint16(1000), "'''")
	f.Add("", "#\r", uint16(9), "[[[")
	u, path := settingsFile(f, "x.conf")
	f.Fuzz(func(t *testing.T, before, repeated string, times uint16, after string) {
		text := []byte(before)
		for i := 0; i < int(times) && len(text) < maxSettings; i++ {
			text = append(text, strings.ReplaceAll(repeated, "N", strconv.Itoa(i))...)
		}
		text = append(text, after...)
		must.NoError(t, os.WriteFile(path, text, 0o644))
		for _, into := range []any{new(config.Config), new(types.TomlConfig), new(registries)} {
			fuzz.Cheap(t, maxOwnSettings, perByte, func() {
				if _, err := u.parse(settings{path: path, own: true}, into); err != nil {
					fuzz.Line(t, err.Error(), maxSeen)
				}
			})
		}
	})
}

// The settings that the driver refuses do not fail any more when a fragment that is read later takes them back.
func FuzzContainersConf(f *testing.F) {
	for _, text := range []string{
		"[engine]\ncgroup_manager = \"cgroupfs\"\n[containers]\nprivileged = true\ncgroups = \"disabled\"\n",
		"[containers]\nlog_size_max = 1\nuserns = \"auto\"\nannotations = []\nno_hosts = true\nenv = [\"A=b\"]\nvolumes = [\"/:/host\"]\nfuture = 1\n",
		"[containers]\nprivileged = \"yes\"\n",
		"containers.label = false\nengine = { cgroup_manager = 'cgroupfs' } # a comment\n",
		"x = [[[[[[1]]]]]]\n",
	} {
		f.Add([]byte(text))
	}
	u, path := settingsFile(f, "containers.conf")
	root := f.TempDir()
	dir := u.own("containers.conf.d")
	must.NoError(f, os.Mkdir(dir, 0o755))
	fragment := filepath.Join(dir, "99-nomad-driver-podman.conf")
	f.Fuzz(func(t *testing.T, text []byte) {
		must.NoError(t, os.WriteFile(path, text, 0o644))
		var found finding.Finding
		fuzz.Cheap(t, len(text), perByte, func() { found = u.findContainersConf(root) })
		shown(t, found)
		if found.Status != finding.Fail || strings.Contains(found.Why, "podman refuses to work") {
			return
		}
		undo := "[containers]\nprivileged = false\ncgroups = \"enabled\"\n[engine]\ncgroup_manager = \"systemd\"\n"
		must.NoError(t, os.WriteFile(fragment, []byte(undo), 0o644))
		must.NotEq(t, finding.Fail, u.findContainersConf(root).Status)
		must.NoError(t, os.Remove(fragment))
	})
}

func FuzzStorageConf(f *testing.F) {
	for _, text := range []string{
		"[storage]\ndriver = \"overlay\"\ngraphroot = \"$HOME/x\"\n",
		"[storage]\ndriver = \"vfs\"\nrootless_storage_path = \"/no/$USER/$UID\"\n[storage.options]\nadditionalimagestores = []\n",
		"[storage]\ngraphroot = \"\\u001b[31m\"\ndriver = \"\\u202e\"\n",
		"[storage",
	} {
		f.Add([]byte(text))
	}
	u, path := settingsFile(f, "storage.conf")
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		must.NoError(t, os.WriteFile(path, text, 0o644))
		var found finding.Finding
		fuzz.Cheap(t, len(text), perByte, func() { found = u.findStorageConf(root) })
		shown(t, found)
	})
}

func FuzzRegistriesConf(f *testing.F) {
	for _, text := range []string{
		"unqualified-search-registries = [\"docker.io\", \"quay.io\"]\n[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"b.example\"\n",
		"[registries.search]\nregistries = [\"a\"]\n",
		"unqualified-search-registries = [\"\\n\\u001b[31m\"]\n[aliases]\n\"a\" = \"b/a\"\n",
		"[[registry]\n",
	} {
		f.Add([]byte(text))
	}
	u, path := settingsFile(f, "registries.conf")
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		must.NoError(t, os.WriteFile(path, text, 0o644))
		var found finding.Finding
		fuzz.Cheap(t, len(text), perByte, func() { found = u.findRegistriesConf(root) })
		shown(t, found)
	})
}

// Whatever the files of IDs say, podman's need and the finding agree, and the commands of a remedy, once they were run, leave
// nothing to fail of: what they give overlaps nobody's IDs.
func FuzzSubordinateIDs(f *testing.F) {
	for _, seed := range [][6]string{
		{enough, enough, passwd, "root:x:0:\nsudo:x:27:team-a\n", "", ""},
		{"", "y:231072:65536\n", passwd, "", "SUB_UID_MIN 524288\nSUB_UID_COUNT 131072\n", ""},
		{"team-a:300000:65536\nteam-a:100000:1000\nx:100000:65536\n", enough, "x:x:1:1::/:\n", "", "", ""},
		{"team-a:4294900000:67296", "2001:100000:65536 # text", passwd, "", "SUB_GID_MAX 165534\n", "subid:   files # text\n"},
		{"team-a:2001:65536\nteam-a:100000\nteam-a:1:-1\n", enough + "gone:165535:65536\n", passwd, "", "SUB_UID_MIN 0x100\n", "subid: sss\n"},
		{"team-a:0:4294967295\n\x1b[31m:0:4294967295\n", enough + enough, "\x1b[31m:x:7:7::/:\n", "a:x:100001:\n", "SUB_UID_MIN 1000\n", ""},
		{"", "", "", "", "SUB_UID_MIN 1000\nSUB_GID_MIN 1000\n", ""}, // the user is in no file, but in a directory service
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	f.Fuzz(func(t *testing.T, subuid, subgid, users, groups, defs, nsswitch string) {
		files := map[string]string{"subuid": subuid, "subgid": subgid, "passwd": users, "group": groups, "login.defs": defs, "nsswitch.conf": nsswitch}
		var err error
		var found finding.Finding
		fuzz.Cheap(t, len(subuid+subgid+users+groups+defs+nsswitch), 1<<14, func() {
			err, found = teamA.checkSubordinateIDs(hostFiles(files)), new(SubordinateIDs).find(teamA, hostFiles(files))
		})
		if err != nil {
			must.Eq(t, finding.Fail, found.Status)
		}
		fuzz.Line(t, found.Seen, math.MaxInt)
		fuzz.Line(t, found.Remedy.String(), math.MaxInt)
		must.Eq(t, found.Status == finding.OK || found.Status == finding.Skipped, found.Remedy.IsZero())
		if len(found.Remedy.Commands) == 0 {
			return
		}
		for _, command := range found.Remedy.Commands {
			usermod(t, command, files)
		}
		mended := new(SubordinateIDs).find(teamA, hostFiles(files))
		must.NotEq(t, finding.Fail, mended.Status, must.Sprintf("%s, after %q", mended.Seen, found.Remedy.Commands))
		must.NoError(t, teamA.checkSubordinateIDs(hostFiles(files)))
	})
}

// usermod changes the files as usermod(8) does, by a command of a remedy. Of a range that it takes it leaves what the user has
// beside it.
func usermod(t *testing.T, command string, files map[string]string) {
	t.Helper()
	words := strings.Fields(command)
	if words[0] != "usermod" {
		return
	}
	for i := 1; i+2 < len(words); i += 2 {
		how, kind, _ := strings.Cut(strings.TrimPrefix(words[i], "--"), "-")
		var first, last uint64
		_, err := fmt.Sscanf(words[i+1], "%d-%d", &first, &last)
		must.NoError(t, err)
		name := strings.TrimSuffix(kind, "s")
		given, _, err := readIDFiles(hostFiles(files))
		must.NoError(t, err)
		changed := idRange{teamA.Name, first, last - first + 1}
		var lines []string
		for _, r := range given[map[string]int{"subuid": 0, "subgid": 1}[name]].ranges {
			if how == "add" {
				must.False(t, r.overlaps(changed), must.Sprintf("%s is given, and overlaps %s", changed, r))
			}
			if how == "add" || r.owner != teamA.Name || !r.overlaps(changed) {
				lines = append(lines, r.line())
				continue
			}
			if r.first < changed.first {
				lines = append(lines, idRange{r.owner, r.first, changed.first - r.first}.line())
			}
			if r.end() > changed.end() {
				lines = append(lines, idRange{r.owner, changed.end(), r.end() - changed.end()}.line())
			}
		}
		if how == "add" {
			lines = append(lines, changed.line())
		}
		files[name] = strings.Join(lines, "\n") + "\n"
	}
}
