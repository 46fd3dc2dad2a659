package cgroupv2

import (
	"os/exec"
	"strings"

	"nomad-driver-podman/finding"
)

// bootWith is the remedy that gives the kernel parameters at the next boot. A file of its own adds them to whatever GRUB
// passes already; other boot loaders are the administrator's.
func bootWith(parameters string) finding.Remedy {
	remedy := finding.Remedy{Advice: "boot the host with " + parameters}
	if _, err := exec.LookPath("update-grub"); err == nil {
		const dir = "/etc/default/grub.d"
		file := dir + "/nomad-driver-podman-" + strings.NewReplacer("=", "-", " ", "-").Replace(parameters) + ".cfg"
		remedy.Commands = []string{
			finding.Command("mkdir", "-p", dir),
			finding.Command("printf", `%s\n`, `GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX `+parameters+`"`) + " >" + finding.Command(file),
			"update-grub",
		}
	}
	return remedy
}
