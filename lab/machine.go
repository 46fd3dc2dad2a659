package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A machine is made in parts, each cached by its recipe:
//
//	nomad      the Nomad binary, from the module in lab/nomad
//	base       Debian with the packages of the lists, a tar archive
//	machine    a disk made from base, booted, provisioned, its state saved:
//	           disk.img, ram.img (the memory), state (everything else), vmlinuz,
//	           initrd, ssh_key, known_hosts
//
// The driver is in none of them.

// bootTimeout bounds how long a machine may take to answer over SSH the first time,
// restoreTimeout how long a restored one may.
const (
	bootTimeout    = 5 * time.Minute
	restoreTimeout = 2 * time.Minute
)

// machinePart returns the saved machine of the suite, and makes what is missing.
func machinePart(ctx context.Context, set *settings, p *progress) (*part, error) {
	if err := missingTools(); err != nil {
		return nil, err
	}
	keys, err := machineKeys(set)
	if err != nil {
		return nil, err
	}
	name := set.suite
	if set.processors > 1 {
		name += fmt.Sprintf(" with %d processors", set.processors)
	}
	s := p.step("machine " + name)
	made, err := set.cache.get(ctx, s, "machine-"+set.suite, keys.machine, func(ctx context.Context, dir string) error {
		return buildMachine(ctx, set, p, s, keys, dir)
	})
	return made, s.ends(err)
}

// keys are the recipes' keys of the parts.
type keys struct{ nomad, base, machine string }

// machineKeys hashes the recipes.
func machineKeys(set *settings) (keys, error) {
	var k keys
	goVersion, err := output("go", "env", "GOVERSION")
	if err != nil {
		return k, err
	}
	qemuVersion, err := output("qemu-system-x86_64", "--version")
	if err != nil {
		return k, err
	}
	packages, err := packageList(set)
	if err != nil {
		return k, err
	}

	nomad := newRecipe()
	nomad.text("go", goVersion)
	base := newRecipe()
	base.text("mmdebstrap", strings.Join(mmdebstrapArgs(set.suite, packages), "\n"))
	if err := nomad.files(set.root, "lab/nomad", "lab/provision/binaries.sh"); err != nil {
		return k, err
	}
	k.nomad, k.base = nomad.key(), base.key()

	machineRecipe := newRecipe()
	machineRecipe.text("parts", k.nomad+" "+k.base)
	machineRecipe.text("go", goVersion)
	machineRecipe.text("qemu", qemuVersion)
	machineRecipe.text("args", strings.Join(machine{processors: set.processors}.args(), "\n"))
	if slices.Contains(accelerator(), "kvm") {
		// A saved state of KVM fits only processors of the same kind.
		cpu, err := output("grep", "-m1", "model name", "/proc/cpuinfo")
		if err != nil {
			return k, err
		}
		machineRecipe.text("cpu", cpu)
	}
	machineRecipe.text("disk", diskSize)
	err = machineRecipe.files(set.root, "lab/provision", "lab/guest/disk.sh", "lab/guest/settle.sh", "lab/probe", "examples/agent")
	k.machine = machineRecipe.key()
	return k, err
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output() //nolint:gosec // a fixed list of tools
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// packageList is the suite's packages of both lists.
func packageList(set *settings) ([]string, error) {
	var names []string
	for _, list := range []string{"lab/guest/packages", "lab/provision/packages"} {
		text, err := os.ReadFile(filepath.Join(set.root, list))
		if err != nil {
			return nil, err
		}
		names = append(names, parsePackages(string(text), set.suite)...)
	}
	return names, nil
}

// parsePackages reads a list: a name a line, then the suites that it is for (none: all).
func parsePackages(text, suite string) []string {
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if len(words) == 1 || slices.Contains(words[1:], suite) {
			names = append(names, words[0])
		}
	}
	return names
}

func mmdebstrapArgs(suite string, packages []string) []string {
	return []string{
		"--variant=minbase", "--format=tar", "--include=" + strings.Join(packages, ","),
		// The Release files of a suite in the making may be past their date.
		`--aptopt=Acquire::Check-Valid-Until "false"`,
		`--aptopt=APT::Install-Recommends "false"`,
		"--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		suite,
	}
}

// buildMachine makes the machine part in dir.
func buildMachine(ctx context.Context, set *settings, p *progress, s *step, k keys, dir string) error {
	s.begins("to be built (once; later labs start from its saved state)")
	s.says("waiting for Debian and Nomad")
	var base, nomad *part
	// The two take a processor each, most of the time.
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		base, err = basePart(groupCtx, set, p, k)
		return err
	})
	group.Go(func() (err error) {
		nomad, err = nomadPart(groupCtx, set, p, k)
		return err
	})
	err := group.Wait()
	if base != nil {
		defer base.release()
	}
	if nomad != nil {
		defer nomad.release()
	}
	if err != nil {
		return err
	}
	if err := makeDisk(ctx, set, s, base, nomad, dir); err != nil {
		return err
	}
	return bootAndSave(ctx, set, s, dir)
}

func basePart(ctx context.Context, set *settings, p *progress, k keys) (*part, error) {
	packages, err := packageList(set)
	if err != nil {
		return nil, err
	}
	s := p.step("Debian " + set.suite)
	made, err := set.cache.get(ctx, s, "base-"+set.suite, k.base, func(ctx context.Context, dir string) error {
		s.begins(fmt.Sprintf("installing %d packages and what they need", len(packages)))
		args := mmdebstrapArgs(set.suite, packages)
		args = append([]string{"--verbose"}, append(args, filepath.Join(dir, "base.tar"))...)
		return tool(ctx, s, []string{"TMPDIR=" + dir}, "mmdebstrap", args...)
	})
	return made, s.ends(err)
}

func nomadPart(ctx context.Context, set *settings, p *progress, k keys) (*part, error) {
	s := p.step("Nomad")
	made, err := set.cache.get(ctx, s, "nomad", k.nomad, func(ctx context.Context, dir string) error {
		s.begins("compiling some 1,200 packages; takes minutes")
		verbose := "GOFLAGS=" + os.Getenv("GOFLAGS") + " -v" // go names each package that it compiles
		return tool(ctx, s, []string{verbose}, "bash", filepath.Join(set.root, "lab/provision/binaries.sh"), "nomad", filepath.Join(dir, "nomad"))
	})
	return made, s.ends(err)
}

// makeDisk makes keys and a bootable disk. The repository's part that the machine
// needs is laid out in it as in the repository.
func makeDisk(ctx context.Context, set *settings, s *step, base, nomad *part, dir string) error {
	s.says("making the disk")
	work, err := os.MkdirTemp(dir, "disk-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	in := func(name string) string { return filepath.Join(work, name) }

	for _, key := range []string{"ssh_key", "ssh_host_key"} {
		if err := tool(ctx, s, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", in(key)); err != nil {
			return err
		}
	}
	host, err := os.ReadFile(in("ssh_host_key.pub"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "known_hosts"), []byte("lab "+string(host)), 0o600); err != nil {
		return err
	}
	if err := os.Rename(in("ssh_key.pub"), in("authorized_keys")); err != nil {
		return err
	}

	for _, tree := range []string{"lab/provision", "examples/agent"} {
		if err := os.CopyFS(in("repo/"+tree), os.DirFS(filepath.Join(set.root, tree))); err != nil {
			return err
		}
	}
	if err := os.Mkdir(in("repo/build"), 0o700); err != nil {
		return err
	}
	if err := os.Link(nomad.path("nomad"), in("repo/build/nomad")); err != nil {
		return err
	}
	if err := tool(ctx, s, nil, "bash", filepath.Join(set.root, "lab/provision/binaries.sh"), "probe", in("repo/build/probe")); err != nil {
		return err
	}

	command := append(asRoot(), "bash", filepath.Join(set.root, "lab/guest/disk.sh"), base.path("base.tar"), work, diskSize)
	if err := tool(ctx, s, nil, command[0], command[1:]...); err != nil {
		return err
	}
	for _, name := range []string{"vmlinuz", "initrd", "disk.img", "ssh_key"} {
		if err := os.Rename(in(name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// bootAndSave boots the disk in dir, provisions the machine and saves its state.
func bootAndSave(ctx context.Context, set *settings, s *step, dir string) (err error) {
	work, err := os.MkdirTemp(dir, "boot-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	load, err := newPayload(filepath.Join(work, "payload"))
	if err == nil {
		err = load.close()
	}
	if err != nil {
		return err
	}

	s.says("booting")
	v, err := machine{base: dir, dir: work, processors: set.processors}.start(ctx)
	if err != nil {
		return err
	}
	defer v.kill()
	defer func() {
		if err != nil {
			console, _ := os.ReadFile(filepath.Join(work, "console"))
			_, _ = s.Write(console)
		}
	}()
	ports, err := v.ports(ctx)
	if err != nil {
		return err
	}
	g := &guest{Keys: dir, Port: ports[22]}
	defer g.disconnect()
	if err := boot(ctx, v, g); err != nil {
		return err
	}

	if err := g.script(ctx, s, "exec bash /lab/lab/provision/all.sh"); err != nil {
		return fmt.Errorf("lab/provision: %w", err)
	}
	settle, err := os.ReadFile(filepath.Join(set.root, "lab/guest/settle.sh"))
	if err != nil {
		return err
	}
	s.says("waiting for Nomad, then leaving everything as if never used")
	if err := g.script(ctx, s, string(settle)); err != nil {
		return fmt.Errorf("lab/guest/settle.sh: %w", err)
	}
	g.disconnect()

	s.says("saving the state")
	return v.save(ctx, filepath.Join(dir, "state"))
}

// boot waits for the machine's SSH.
func boot(ctx context.Context, v *vm, g *guest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, errors.New("it did not boot"))
	defer cancel()
	return g.connect(ctx, v.ended)
}
