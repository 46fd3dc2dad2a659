package preflight

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/rootless"
)

func program() (Program, *bytes.Buffer) {
	var out bytes.Buffer
	return Program{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &bytes.Buffer{}, Version: "1",
		RunTest: func(context.Context, *config.Plugin, rootless.User, string, string) error { return nil }}, &out
}

func TestMain_Usage(t *testing.T) {
	for args, says := range map[string]string{
		"-x":                   "-x",
		"now":                  "now",
		"-yes":                 "-yes needs -fix",
		"-create -user a":      "-create needs -fix",
		"-create -fix -yes":    "-create needs -fix, and -user",
		"-fix":                 "needs a terminal",
		"-fix -create -user a": "needs a terminal",
		"-config":              "-config",
		"-user":                "-user",
		"-json=perhaps":        "perhaps",
		"-user= -run":          "-user needs a name",
	} {
		p, out := program()
		_, err := Main(t.Context(), strings.Fields(args), p)
		must.ErrorIs(t, err, cli.ErrUsage, must.Sprint(args))
		must.ErrorContains(t, err, says)
		must.Eq(t, "", out.String())
	}
}

// A host whose configuration cannot be read is not ready, and is looked at all the same.
func TestMain_NotReady(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.hcl")
	p, out := program()
	exit, err := Main(t.Context(), []string{"-config", missing, "-json"}, p)
	must.NoError(t, err)
	must.Eq(t, exitNotReady, exit)
	must.NoError(t, validate(t, out.Bytes()))
	var report report
	must.NoError(t, json.Unmarshal(out.Bytes(), &report))
	must.False(t, report.Ready)
	must.StrContains(t, report.Findings[0].Seen, missing)

	p, out = program()
	exit, err = Main(t.Context(), []string{"-config", missing, "-strict"}, p)
	must.NoError(t, err)
	must.Eq(t, exitNotReady, exit)
	must.StrContains(t, out.String(), "not ready: ")
	must.StrContains(t, out.String(), "configuration of host: ")
}

func TestMain_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, _ := program()
	exit, err := Main(ctx, nil, p)
	must.ErrorIs(t, err, errInterrupted)
	must.Eq(t, exitInterrupted, exit)
}

func TestMain_FixNeedsRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may")
	}
	p, _ := program()
	_, err := Main(t.Context(), []string{"-fix", "-yes"}, p)
	must.ErrorIs(t, err, cli.ErrUsage)
	must.ErrorContains(t, err, "needs root")
}
