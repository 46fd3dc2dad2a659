package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"

	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// programTimeout bounds how long a program takes to tell its version.
const programTimeout = 10 * time.Second

// Where podman looks for programs, the first that has one wins: the PATH of a service of systemd, and for those that only
// podman calls directories of its own (containers.conf(5), conmon_path and helper_binaries_dir).
var (
	programDirs = rootless.ProgramDirs
	conmonDirs  = append([]string{"/usr/libexec/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/lib/podman", "/usr/libexec/crio", "/usr/lib/crio"}, programDirs...)
	helperDirs  = append([]string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}, programDirs...)
)

// version is that of a program: major, minor and patch level.
type version [3]int

func (v version) before(major, minor, patch int) bool {
	return slices.Compare(v[:], []int{major, minor, patch}) < 0
}

var versionPattern = regexp.MustCompile(`\b([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?`)

// parseVersion finds the first version in a text. Without one it is zero.
func parseVersion(text string) (v version) {
	if match := versionPattern.FindStringSubmatch(text); match != nil {
		for i, number := range match[1:] {
			v[i], _ = strconv.Atoi(number) // what is left out is 0
		}
	}
	return v
}

// programs is what a host has of podman and of what podman calls.
type programs struct {
	root   string // of the host's file system
	config containersConf
	run    func(ctx context.Context, path string) (string, error)
}

// containersConf is what containers.conf(5) says about where programs are.
type containersConf struct {
	Engine struct {
		ConmonPath        []string            `toml:"conmon_path"`
		HelperBinariesDir []string            `toml:"helper_binaries_dir"`
		Runtime           string              `toml:"runtime"`
		Runtimes          map[string][]string `toml:"runtimes"`
	} `toml:"engine"`
	Network struct {
		RootlessNetwork string `toml:"default_rootless_network_cmd"`
	} `toml:"network"`
}

// FindPrograms looks for podman and what it needs. rootless says whether host users are to have containers.
func FindPrograms(ctx context.Context, rootless bool) []finding.Finding {
	return programs{root: "/", run: askVersion}.find(ctx, rootless)
}

func (p programs) find(ctx context.Context, rootless bool) []finding.Finding {
	p.readConfig()
	podman, podmanVersion := p.findPodman(ctx)
	return []finding.Finding{podman, p.findConmon(ctx), p.findRuntime(ctx), p.findNetworkHelper(ctx, rootless, podmanVersion)}
}

// readConfig reads the host's files, later ones overriding what earlier ones say. What a host user's own say is not looked
// at here, and what cannot be read keeps podman itself from answering.
func (p *programs) readConfig() {
	files := []string{"usr/share/containers/containers.conf", "etc/containers/containers.conf"}
	more, _ := filepath.Glob(filepath.Join(p.root, "etc/containers/containers.conf.d/*.conf")) // the pattern is well-formed
	for i, file := range files {
		files[i] = filepath.Join(p.root, file)
	}
	for _, file := range append(files, more...) {
		_, _ = toml.DecodeFile(file, &p.config)
	}
}

// program is what is looked for.
type program struct {
	id, name string
	why      string // what goes wrong without it
	install  finding.Remedy
	where    []string // paths, the first that is a program counts
}

func (p programs) findPodman(ctx context.Context) (finding.Finding, version) {
	f, v := p.look(ctx, program{"podman", "podman", "tasks run in podman", finding.Install("podman", "podman"), paths(programDirs, "podman")})
	switch {
	case v == version{}:
	case v.before(4, 3, 0):
		f.Status, f.Why = finding.Fail, "the driver needs podman 4.3 or newer"
		f.Remedy = finding.Remedy{Advice: "upgrade podman; Debian 12, RHEL 9, Ubuntu 24.04 and what is newer have one that will do"}
	case !v.before(5, 3, 0) && v.before(5, 4, 2):
		// https://github.com/containers/podman/issues/25473
		f.Seen += "; it keeps the output of health checks without a limit, as 5.4.2 does not"
	}
	return f, v
}

func (p programs) findConmon(ctx context.Context) finding.Finding {
	where := paths(conmonDirs, "conmon")
	if len(p.config.Engine.ConmonPath) > 0 {
		where = p.config.Engine.ConmonPath
	}
	f, v := p.look(ctx, program{"conmon", "conmon", "podman starts every container through it", finding.Install("conmon", "conmon"), where})
	return tooOld(f, v, "conmon", 2, 1, 0)
}

// findRuntime looks for the OCI runtime that containers.conf names, else for those that podman takes by itself.
func (p programs) findRuntime(ctx context.Context) finding.Finding {
	engine := &p.config.Engine
	names, what := []string{"crun", "runc"}, "OCI runtime (crun or runc)"
	if engine.Runtime != "" {
		names, what = []string{engine.Runtime}, "OCI runtime "+engine.Runtime+", which containers.conf names"
	}
	var where []string
	for _, name := range names {
		if filepath.IsAbs(name) {
			where = append(where, name)
			continue
		}
		where = append(append(where, engine.Runtimes[name]...), paths(programDirs, name)...)
	}
	f, v := p.look(ctx, program{"oci-runtime", what, "podman has it make the containers", finding.Install("crun", "crun"), where})
	switch name, _, _ := strings.Cut(f.Seen, " "); name {
	case "crun":
		return tooOld(f, v, name, 0, 20, 0)
	case "runc":
		return tooOld(f, v, name, 1, 1, 0)
	}
	return f
}

// findNetworkHelper looks for what connects containers of host users with the host's network: first for the one that
// podman takes for tasks that say nothing of it.
func (p programs) findNetworkHelper(ctx context.Context, rootless bool, podman version) finding.Finding {
	if !rootless {
		return finding.Skip("network-helper", finding.Host, "only containers of host users need one")
	}
	helper := func(name, pkg string) program {
		dirs := append(slices.Clone(p.config.Engine.HelperBinariesDir), helperDirs...)
		return program{"network-helper", name, "tasks of host users have no network without it", finding.Install(pkg, pkg), paths(dirs, name)}
	}
	known := podman != version{}
	pasta, slirp := helper("pasta", "passt"), helper("slirp4netns", "slirp4netns")
	first, second, works := pasta, slirp, podman.before(6, 0, 0)
	if p.config.Network.RootlessNetwork == slirp.name || p.config.Network.RootlessNetwork == "" && known && podman.before(5, 0, 0) {
		first, second, works = slirp, pasta, !podman.before(4, 4, 0)
	}
	f, v := p.look(ctx, first)
	if first.name == slirp.name {
		f = tooOld(f, v, first.name, 1, 0, 0)
	}
	if f.Cause != fs.ErrNotExist || !works {
		return f
	}
	if other, _ := p.look(ctx, second); other.Status == finding.OK {
		f.Status = finding.Warn
		f.Seen += ", but " + other.Seen
		f.Why = fmt.Sprintf("podman uses %s unless told otherwise: tasks that do not say network_mode = %q fail", first.name, second.name)
	}
	return f
}

func paths(dirs []string, name string) []string {
	all := make([]string, len(dirs))
	for i, dir := range dirs {
		all[i] = filepath.Join(dir, name)
	}
	return all
}

// tooOld warns of a program that works, but is older than what the driver was tried with.
func tooOld(f finding.Finding, v version, name string, major, minor, patch int) finding.Finding {
	if f.Status == finding.OK && v != (version{}) && v.before(major, minor, patch) {
		f.Status, f.Why = finding.Warn, fmt.Sprintf("%s before %d.%d.%d is not known to run tasks well", name, major, minor, patch)
		f.Remedy = finding.Remedy{Advice: "upgrade " + name}
	}
	return f
}

// look finds a program, and asks it for its version. Without one the finding's cause is fs.ErrNotExist.
func (p programs) look(ctx context.Context, wanted program) (finding.Finding, version) {
	for _, path := range wanted.where {
		st, err := os.Stat(filepath.Join(p.root, path))
		if err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
			continue
		}
		if f, unsafe := findOwner(wanted.id, path, st); unsafe {
			return f, version{}
		}
		text, err := p.run(ctx, path)
		if err != nil {
			return finding.Unknown(wanted.id, finding.Host, fmt.Errorf("%s --version: %w", path, err)), version{}
		}
		line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		if line == "" { // Debian's AppArmor profile of pasta lets it write to a terminal only
			return finding.Good(wanted.id, finding.Host, "%s, which does not tell its version", path), version{}
		}
		return finding.Good(wanted.id, finding.Host, "%s (%s)", finding.Printable(line), path), parseVersion(line)
	}
	return finding.Finding{
		ID: wanted.id, Subject: finding.Host, Status: finding.Fail, Seen: "no " + wanted.name,
		Why: wanted.why, Remedy: wanted.install, Cause: fs.ErrNotExist,
	}, version{}
}

// findOwner refuses a program that somebody else than root can change: it would run with the rights of all who use it.
func findOwner(id, path string, st fs.FileInfo) (f finding.Finding, unsafe bool) {
	f = finding.Finding{ID: id, Subject: finding.Host, Status: finding.Fail, Why: "who can change it can have it do anything as root or as a host user"}
	var owner uint32
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		owner = sys.Uid
	}
	switch {
	case st.Mode()&0o002 != 0:
		f.Seen = fmt.Sprintf("%s can be written by everybody (mode %04o)", path, st.Mode().Perm())
		f.Remedy = finding.Remedy{Commands: []string{finding.Command("chmod", "o-w", path)}, Advice: "make sure first that it is what the package has installed"}
	case owner != 0 && int(owner) != os.Geteuid():
		f.Seen = fmt.Sprintf("%s belongs to UID %d", path, owner)
		f.Remedy = finding.Remedy{Commands: []string{finding.Command("chown", "root", path)}, Advice: "make sure first that it is what the package has installed"}
	default:
		return finding.Finding{}, false
	}
	return f, true
}

// askVersion runs a program, which does nothing but tell its version. crun makes its state directory even so: it gets another
// place for that, which is removed.
func askVersion(ctx context.Context, path string) (_ string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, programTimeout, fmt.Errorf("no answer within %s", programTimeout))
	defer cancel()
	runtimeDir, err := os.MkdirTemp("", "preflight-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(runtimeDir)) }()
	var out boundedBuffer
	cmd := exec.CommandContext(ctx, path, "--version") //nolint:gosec // root's program, as findOwner has made sure
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtimeDir)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &out, &out
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", fmt.Errorf("%w: %s", err, finding.Printable(string(out.text)))
	}
	return string(out.text), nil
}

// boundedBuffer keeps the first maxMessage bytes of what is written.
type boundedBuffer struct{ text []byte }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxMessage-len(b.text))]...)
	return len(p), nil
}
