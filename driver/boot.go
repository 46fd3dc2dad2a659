package driver

import (
	"fmt"
	"os"
	"strings"
)

// bootID identifies the current boot (proc_sys_kernel(5), random/boot_id).
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot ID: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
