package finding

import (
	"os/exec"
	"strings"
)

// Install is the remedy for a missing program: it installs the packages that hold it, named as Debian and as Fedora do and
// separated by spaces, with the tool that this host has. It is never safe, since what is installed is the administrator's
// choice.
func Install(debian, fedora string) Remedy {
	return install(debian, fedora, exec.LookPath)
}

func install(debian, fedora string, look func(program string) (string, error)) Remedy {
	for _, tool := range []struct{ program, packages string }{{"apt-get", debian}, {"dnf", fedora}} {
		if _, err := look(tool.program); err == nil {
			args := append([]string{tool.program, "install", "-y"}, strings.Fields(tool.packages)...)
			return Remedy{Commands: []string{Command(args...)}}
		}
	}
	return Remedy{Advice: "install the package that Debian calls " + debian + " and Fedora " + fedora}
}
