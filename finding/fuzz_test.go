package finding

import (
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

func FuzzPrintable(f *testing.F) {
	f.Add("a\tb\n\x1b[31mc\u202e")
	f.Add(strings.Repeat("\xff", maxText))
	f.Add(strings.Repeat("ü", maxText))
	f.Fuzz(func(t *testing.T, text string) {
		shown := Printable(text)
		fuzz.Line(t, shown, maxText+len("…"))
		if len(shown) <= maxText {
			must.EqOp(t, shown, Printable(shown))
		}
	})
}

// Whatever a user has called something, a shell that runs a command of a remedy gets that name, and nothing else.
func FuzzCommand(f *testing.F) {
	f.Add("/home/x/.config/containers/a'; rm -rf ~ #.conf", "--")
	f.Add("$(id)`id`\"\\\n", "")
	f.Add("\xff\x00ü", "a=b")
	f.Fuzz(func(t *testing.T, name, other string) {
		must.Eq(t, []string{"mv", name, other}, words(t, Command("mv", name, other)))
	})
}

// words are those of a command in which all that is special stands in single quotes, or behind a backslash.
func words(t *testing.T, command string) (words []string) {
	t.Helper()
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%"
	var word []byte
	quoted, escaped := false, false
	for i := range len(command) {
		c := command[i]
		switch {
		case quoted && c != '\'':
			word = append(word, c)
		case escaped:
			word, escaped = append(word, c), false
		case c == '\'':
			quoted = !quoted
		case c == '\\':
			escaped = true
		case c == ' ':
			words, word = append(words, string(word)), nil
		default:
			must.True(t, strings.IndexByte(plain, c) >= 0, must.Sprint(command))
			word = append(word, c)
		}
	}
	must.False(t, quoted || escaped)
	return append(words, string(word))
}
