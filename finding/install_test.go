package finding

import (
	"os/exec"
	"testing"

	"github.com/shoenig/test/must"
)

func TestInstall(t *testing.T) {
	for tool, want := range map[string]Remedy{
		"apt-get": {Commands: []string{"apt-get install -y uidmap podman"}},
		"dnf":     {Commands: []string{"dnf install -y shadow-utils"}},
		"apk":     {Advice: "install the package that Debian calls uidmap podman and Fedora shadow-utils"},
	} {
		must.Eq(t, want, install("uidmap podman", "shadow-utils", func(program string) (string, error) {
			if program != tool {
				return "", exec.ErrNotFound
			}
			return "/usr/bin/" + program, nil
		}))
	}
}
