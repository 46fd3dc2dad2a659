package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The machine. All of it is part of the recipe, since a saved state fits only the
// machine that it was saved from.
const (
	memory      = "4G"
	diskSize    = "16G"
	payloadSize = 512 << 20 // bytes; the second disk, see payload.go
	// The last two are for speed: no protection from other guests, and no memory cleared twice.
	kernelLine = "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1 quiet mitigations=off init_on_alloc=0"
)

// accelerator is KVM where it works, else emulation. Some virtual machines have a
// /dev/kvm that opens but runs no ordinary guest: their processors say nothing of
// virtualisation.
func accelerator() []string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`).Match(info) {
		if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			_ = kvm.Close()
			return []string{"-accel", "kvm", "-cpu", "host"}
		}
	}
	// Without what makes emulation slow: a fifth level of page tables, and instructions that copy byte by byte.
	return []string{"-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max,-la57,-erms,-fsrm"}
}

// machine is one QEMU's files and purpose.
type machine struct {
	base       string // directory with vmlinuz, initrd, disk.img and ram.img
	dir        string // directory for what only this QEMU uses; holds the payload
	restore    bool   // from base's saved state, changing nothing in base; else boot from base's disk
	processors int    // with one, QEMU emulates faster: nothing it does need be atomic
	http       bool   // forward Nomad's port as well
}

// args is QEMU's command line. Between a boot and a restore it differs only where
// the guest sees no difference.
func (m machine) args() []string {
	share, snapshot, hostfwd := "on", "off", "hostfwd=tcp:127.0.0.1:0-:22"
	if m.restore {
		// The memory's file is mapped privately and the disk is written elsewhere
		// (to an unlinked file in TMPDIR), so any number of labs share both.
		share, snapshot = "off", "on"
	}
	if m.http {
		hostfwd += ",hostfwd=tcp:127.0.0.1:0-:4646"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "q35,memory-backend=ram", "-smp", strconv.Itoa(m.processors), "-m", memory,
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%s,mem-path=%s/ram.img,share=%s", memory, comma(m.base), share),
		"-kernel", m.base + "/vmlinuz", "-initrd", m.base + "/initrd", "-append", kernelLine,
		"-chardev", fmt.Sprintf("file,id=console,path=%s/console", comma(m.dir)), "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control",
		"-drive", fmt.Sprintf("if=none,id=root,format=raw,cache=unsafe,discard=unmap,snapshot=%s,file=%s/disk.img", snapshot, comma(m.base)),
		"-device", "virtio-blk-pci,drive=root",
		"-drive", fmt.Sprintf("if=none,id=payload,format=raw,cache=unsafe,file=%s/payload", comma(m.dir)),
		"-device", "virtio-blk-pci,drive=payload",
		"-netdev", "user,id=net," + hostfwd, "-device", "virtio-net-pci,netdev=net",
		"-device", "virtio-rng-pci",
		// Tells the guest's kernel that it has been restored, so that two labs do not
		// draw the same random numbers.
		"-device", "vmgenid,guid=auto",
	}
	args = append(args, accelerator()...)
	if m.restore {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// comma escapes a path for QEMU's comma-separated options.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// vm is a running QEMU.
type vm struct {
	*qmp
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	stderr *strings.Builder
}

// start starts QEMU and connects to its monitor. The vm must be killed by the caller.
func (m machine) start(ctx context.Context) (*vm, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	v := &vm{
		cmd:    child(context.WithoutCancel(ctx), "qemu-system-x86_64", m.args()...),
		ended:  make(chan struct{}),
		stderr: &strings.Builder{},
	}
	v.cmd.ExtraFiles = []*os.File{theirs}
	v.cmd.Env = append(os.Environ(), "TMPDIR="+m.dir)
	v.cmd.Stderr = v.stderr
	if err := v.cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	go func() {
		_ = v.cmd.Wait()
		close(v.ended)
		_ = ours.Close()
	}()
	if v.qmp, err = newQMP(ctx, ours); err != nil {
		v.kill()
		return nil, fmt.Errorf("QEMU does not start: %w\n%s", err, v.stderr)
	}
	return v, nil
}

// kill ends QEMU, if it has not ended yet, and waits for it.
func (v *vm) kill() {
	_ = signalGroup(v.cmd, syscall.SIGKILL)
	<-v.ended
}

// processorTime is what QEMU has used, once it has ended.
func (v *vm) processorTime() time.Duration {
	return v.cmd.ProcessState.UserTime() + v.cmd.ProcessState.SystemTime()
}

// socketPair is a connection and the file of its other end, to be given to a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "monitor"), os.NewFile(uintptr(fds[1]), "monitor")
	conn, err := net.FileConn(mine)
	if err := errors.Join(err, mine.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

// save writes the state of the stopped machine, without its memory, which is in
// base's ram.img, and ends QEMU.
func (v *vm) save(ctx context.Context, file string) error {
	for _, step := range []struct {
		command   string
		arguments any
	}{
		{"stop", nil},
		{"migrate-set-capabilities", ignoreShared},
		{"migrate", map[string]any{"uri": "exec:cat >" + quote(file)}},
	} {
		if err := v.execute(ctx, step.command, step.arguments, nil); err != nil {
			return err
		}
	}
	if err := v.awaitMigration(ctx); err != nil {
		return err
	}
	if err := v.execute(ctx, "quit", nil, nil); err != nil {
		return err
	}
	select {
	case <-v.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads a saved state and lets the machine go on.
func (v *vm) load(ctx context.Context, file string) error {
	if err := v.execute(ctx, "migrate-set-capabilities", ignoreShared, nil); err != nil {
		return err
	}
	if err := v.execute(ctx, "migrate-incoming", map[string]any{"uri": "exec:cat " + quote(file)}, nil); err != nil {
		return err
	}
	if err := v.awaitMigration(ctx); err != nil {
		return err
	}
	return v.execute(ctx, "cont", nil, nil)
}

// ignoreShared leaves memory that is a shared mapping out of the saved state. A
// machine that maps the same file privately then goes on from it: that is how one
// saved memory serves many machines without being read whole.
var ignoreShared = map[string]any{
	"capabilities": []map[string]any{{"capability": "x-ignore-shared", "state": true}},
}

// ports are the ports of 127.0.0.1 that QEMU got from the kernel, by the guest's ports.
func (v *vm) ports(ctx context.Context) (map[int]int, error) {
	var table string
	err := v.execute(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"}, &table)
	if err != nil {
		return nil, err
	}
	return parsePorts(table)
}

// parsePorts reads the forwarded ports from "info usernet": protocol and state,
// descriptor, source address and port, destination address and port, …
func parsePorts(table string) (map[int]int, error) {
	ports := map[int]int{}
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[0] != "TCP[HOST_FORWARD]" {
			continue
		}
		host, err := strconv.Atoi(fields[3])
		if err != nil {
			return nil, fmt.Errorf("QEMU's port %q: %w", fields[3], err)
		}
		guest, err := strconv.Atoi(fields[5])
		if err != nil {
			return nil, fmt.Errorf("QEMU's port %q: %w", fields[5], err)
		}
		ports[guest] = host
	}
	if ports[22] == 0 {
		return nil, fmt.Errorf("QEMU forwards no port to SSH:\n%s", table)
	}
	return ports, nil
}

// quote makes a string one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
