//go:build crash

package driver

import (
	"os"

	"golang.org/x/sys/unix"
)

// crashFile names the step before which the driver kills itself, once. Only the end-to-end tests build it in.
const crashFile = "/run/nomad-driver-podman.crash"

func crashBefore(step string) {
	wanted, err := os.ReadFile(crashFile)
	if err != nil || string(wanted) != step {
		return
	}
	if os.Remove(crashFile) == nil {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}
