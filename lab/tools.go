package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// tools are the programs of this machine that labs are made with.
var tools = []string{"qemu-system-x86_64", "mmdebstrap", "mke2fs", "ssh", "ssh-keygen", "go", "gcc"}

// missingTools says which tools are not installed, and how to install them.
func missingTools() error {
	var missing []string
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; lab/deps.sh installs what a lab needs", strings.Join(missing, ", "))
	}
	return nil
}

// child prepares a process that ends with this one: in a process group of its own,
// so that Ctrl-C reaches only this program, which then ends the group.
func child(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return signalGroup(cmd, syscall.SIGTERM) }
	return cmd
}

// tool runs a tool, whose output goes to the step. When the context ends it has
// some seconds to clean up after SIGTERM.
func tool(ctx context.Context, s *step, env []string, name string, args ...string) error {
	cmd := child(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = s, s
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 15 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) || ctx.Err() != nil {
		_ = signalGroup(cmd, syscall.SIGKILL)
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// signalGroup sends a signal to the process group that child made.
func signalGroup(cmd *exec.Cmd, sig syscall.Signal) error {
	if cmd.Process == nil {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-cmd.Process.Pid, sig); err != nil {
		return os.ErrProcessDone
	}
	return nil
}

// asRoot is the words before a command that must see itself as root, to make files
// of other owners: a user namespace when this user is not root.
func asRoot() []string {
	if os.Geteuid() == 0 {
		return nil
	}
	return []string{"unshare", "--map-auto", "--map-root-user", "--setuid", "0", "--setgid", "0", "--"}
}
