package preflight

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

// A command sees nothing of the caller's environment, and its output cannot give orders to a terminal.
func TestShell(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "secret")
	var out bytes.Buffer
	lines := &indented{out: &out}
	must.NoError(t, shell(t.Context(), `pwd; echo "<$VAULT_TOKEN>" | cat; printf '\033[31mred\n' >&2; read answer || printf 'no input'`, lines))
	lines.flush()
	must.Eq(t, "    /\n    <>\n     [31mred\n    no input\n", out.String())
	must.EqError(t, shell(t.Context(), "exit 3", io.Discard), "exit status 3")

	// It leads a session (proc_pid_stat(5)), which has no terminal to ask at.
	must.NoError(t, shell(t.Context(), `read -r _ _ _ _ _ session _ </proc/$$/stat; test "$session" = $$`, io.Discard))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.ErrorIs(t, shell(ctx, "true", io.Discard), context.Canceled)
}

// What a command leaves behind does not hold up the rest.
func TestIndentedIsBounded(t *testing.T) {
	var out bytes.Buffer
	lines := &indented{out: &out}
	n, err := lines.Write(bytes.Repeat([]byte("x"), 1<<20))
	must.NoError(t, err)
	must.Eq(t, 1<<20, n)
	must.Eq(t, maxLine, len(lines.line))
	_, err = lines.Write([]byte("\nnext\n"))
	must.NoError(t, err)
	must.Eq(t, 2, strings.Count(out.String(), "\n"))
	must.StrHasSuffix(t, "    next\n", out.String())
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "n\n": false, "\n": false, "": false, "yellow\n": false} {
		var out bytes.Buffer
		must.Eq(t, want, ask(t.Context(), strings.NewReader(answer), &out, "Run it? "), must.Sprint(answer))
		must.Eq(t, "Run it? ", out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, _ := io.Pipe()
	must.False(t, ask(ctx, silent, io.Discard, ""))
}
