package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// guest reaches a machine over SSH. One connection carries every command.
type guest struct {
	Keys string // directory with ssh_key and known_hosts
	Port int    // of 127.0.0.1

	dir    string // holds the connection's socket
	master *exec.Cmd
}

// options are ssh's options, destination and all. Nothing of the user's own
// configuration takes part.
func (g *guest) options(more ...string) []string {
	args := []string{
		"-F", "none", "-p", strconv.Itoa(g.Port), "-i", filepath.Join(g.Keys, "ssh_key"),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + filepath.Join(g.Keys, "known_hosts"),
		"-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=lab", "-o", "StrictHostKeyChecking=yes",
		// The cheapest for an emulated processor.
		"-o", "KexAlgorithms=curve25519-sha256",
	}
	return append(append(args, more...), "root@127.0.0.1")
}

func (g *guest) socket() string { return filepath.Join(g.dir, "ssh") }

// connect opens the connection. It waits for a machine that is booting, until the
// context ends. disconnect must follow.
func (g *guest) connect(ctx context.Context, dead <-chan struct{}) error {
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		return err
	}
	g.dir = dir
	for {
		connected, err := g.tryConnect(ctx, dead)
		if connected {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the machine's SSH does not answer: %w", errors.Join(ctx.Err(), err))
		case <-dead:
			return errors.New("the machine has ended")
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// tryConnect starts an ssh that keeps the connection open, and waits for its socket.
func (g *guest) tryConnect(ctx context.Context, dead <-chan struct{}) (bool, error) {
	var said strings.Builder
	cmd := child(context.WithoutCancel(ctx), "ssh", g.options("-M", "-N", "-S", g.socket(), "-o", "ConnectTimeout=30")...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return false, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		case <-ctx.Done():
			_ = signalGroup(cmd, syscall.SIGKILL)
			return false, <-ended
		case <-dead:
			_ = signalGroup(cmd, syscall.SIGKILL)
			return false, <-ended
		case <-time.After(20 * time.Millisecond):
		}
		if _, err := os.Stat(g.socket()); err == nil {
			g.master = cmd
			return true, nil
		}
	}
}

func (g *guest) disconnect() {
	if g.master != nil {
		_ = signalGroup(g.master, syscall.SIGKILL)
	}
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}

// command prepares a shell command in the guest, over the open connection.
func (g *guest) command(ctx context.Context, more []string, script string) *exec.Cmd {
	return child(ctx, "ssh", append(g.options(append(more, "-S", g.socket(), "-o", "ControlMaster=no")...), script)...)
}

// script runs a shell script of this machine in the guest, with arguments. Its
// output goes to out.
func (g *guest) script(ctx context.Context, out io.Writer, text string, args ...string) error {
	words := "bash -s --"
	for _, arg := range args {
		words += " " + quote(arg)
	}
	cmd := g.command(ctx, nil, words)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), out, out
	return cmd.Run()
}
