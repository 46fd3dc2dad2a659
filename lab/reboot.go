package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// rebootCode is the exit code of a command in the guest that asks for a reboot. Afterwards the command is run again;
// LAB_BOOT counts the machine's boots, from 1.
const rebootCode = 86

// reboot boots the guest again, which keeps its disk.
func (l *lab) reboot(ctx context.Context) error {
	fmt.Fprintln(os.Stderr, "lab: rebooting the machine")
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, errors.New("it did not boot again"))
	defer cancel()
	// -no-reboot holds while a machine is made; a lab's may.
	action := map[string]string{"reboot": "reset"}
	if err := l.vm.execute(ctx, "set-action", action, nil); err != nil {
		return err
	}
	before, err := l.guest.bootID(ctx)
	if err != nil {
		return err
	}
	// The connection may end before the answer.
	_ = l.guest.command(ctx, []string{"-n"}, "systemctl reboot").Run()
	for {
		l.guest.disconnect()
		if err := l.guest.connect(ctx, l.vm.ended); err != nil {
			return err
		}
		// The machine that is going down may still answer.
		if now, err := l.guest.bootID(ctx); err == nil && !bytes.Equal(now, before) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// bootID identifies the guest's boot.
func (g *guest) bootID(ctx context.Context) ([]byte, error) {
	return g.command(ctx, []string{"-n"}, "cat /proc/sys/kernel/random/boot_id").Output()
}
