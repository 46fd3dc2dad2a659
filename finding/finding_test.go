package finding

import (
	"errors"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

func TestErr(t *testing.T) {
	for _, status := range []Status{OK, Warn, Skipped} {
		must.NoError(t, Finding{Status: status, Cause: fs.ErrExist}.Err())
	}
	f := Finding{Status: Fail, Seen: "no crun", Why: "nothing runs", Cause: fs.ErrNotExist,
		Remedy: Remedy{Advice: "install it", Commands: []string{"apt-get update", "apt-get install crun"}}}
	must.EqError(t, f.Err(), "no crun: nothing runs; install it; as root, run: apt-get update && apt-get install crun")
	must.ErrorIs(t, f.Err(), fs.ErrNotExist)
	must.EqError(t, Finding{Status: Fail, Seen: "no crun"}.Err(), "no crun")
}

func TestUnknown(t *testing.T) {
	f := Unknown("kernel", Host, errors.New("no /proc"))
	must.Eq(t, Warn, f.Status)
	must.StrContains(t, f.Seen, "no /proc")
	must.NoError(t, f.Err())
}

// A shell gets back exactly the arguments.
func TestCommand(t *testing.T) {
	for _, args := range [][]string{
		{"usermod", "--add-subuids", "524288-589823", "team-a"},
		{"", "a b", "it's", `"$HOME"`, "`id`", "*", "~root", "a\nb", "ü", "!x", "#", "a;b", "\\"},
	} {
		out, err := exec.Command("sh", "-c", Command(append([]string{"printf", `%s\0`}, args...)...)).Output()
		must.NoError(t, err)
		must.Eq(t, strings.Join(args, "\x00")+"\x00", string(out))
	}
	must.EqOp(t, "usermod --add-subuids 1-2 a@b", Command("usermod", "--add-subuids", "1-2", "a@b"))
}

func TestPrintable(t *testing.T) {
	must.EqOp(t, "a b  [31mc", Printable("a\tb\n\x1b[31mc"))
	must.EqOp(t, strings.Repeat("ü", maxText/2)+"…", Printable(strings.Repeat("ü", 1000)))
}
