package books

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// Whatever somebody has called a mount point, it is found by its name.
func FuzzMountPoints(f *testing.F) {
	f.Add("/run/nomad-podman/stage/1001/a b", "36 35 98:0 / /mnt rw,noatime shared:1 - ext4 /dev/root rw,errors=continue\n")
	f.Add("/a\\040b\n\t#", "36 35 98:0 /mnt1 /mnt\\377\\999 rw - ext4")
	f.Add("/a\r\v\u00a0b\xff", "")
	// The kernel's escapes (fs/proc_namespace.c, mangle).
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`, "#", `\043`)
	f.Fuzz(func(t *testing.T, point, text string) {
		line := fmt.Sprintf("36 35 98:0 / %s rw,noatime shared:1 - ext4 /dev/root rw\n", escape.Replace(point))
		if point != "" {
			must.Eq(t, []string{point}, mountPoints(line))
		}
		fuzz.Cheap(t, len(text), 64, func() {
			for _, found := range mountPoints(text) {
				must.LessEq(t, len(text), len(found))
			}
		})
	})
}
