package cli

import (
	"bytes"
	"errors"
	"flag"
	"testing"

	"github.com/shoenig/test/must"
)

func TestUsage(t *testing.T) {
	err := Usage("sockets", "%w", flag.ErrHelp)
	must.ErrorIs(t, err, ErrUsage)
	must.ErrorIs(t, err, flag.ErrHelp)
	must.EqError(t, Usage("explain", "name %d allocation", 1), "explain: wrong arguments: name 1 allocation")
	must.False(t, errors.Is(errors.New("x"), ErrUsage))
}

func TestRepeated(t *testing.T) {
	flags := Flags("x")
	paths := Repeated(flags, "config")
	must.NoError(t, flags.Parse([]string{"-config", "a", "-config=b", "rest"}))
	must.Eq(t, []string{"a", "b"}, *paths)
	must.Eq(t, []string{"rest"}, flags.Args())
	must.Error(t, flags.Parse([]string{"-other"}))
}

func TestPrintJSON(t *testing.T) {
	var out bytes.Buffer
	must.NoError(t, PrintJSON(&out, map[string]string{"a": "<&>"}))
	must.Eq(t, "{\n  \"a\": \"<&>\"\n}\n", out.String())
}
