package preflight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// Subcommand is the one whose body Main is.
const Subcommand = "preflight"

// Exit statuses, besides 0 and that of wrong arguments.
const (
	exitWarnings    = 1   // only with -strict
	exitNotReady    = 2   // tasks fail of what was found
	exitInterrupted = 130 // as a shell says of what SIGINT has ended
)

var errInterrupted = errors.New("interrupted")

// Program is what Main needs of the program that it is a part of.
type Program struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Version        string
	// RunTest is that of Options.
	RunTest func(ctx context.Context, plugin *config.Plugin, user rootless.User, socket, version string) error
}

// Main tells whether this host is ready for tasks, and mends it when asked to. The exit status counts unless the error is
// one of arguments.
func Main(ctx context.Context, args []string, p Program) (exit int, err error) {
	flags := cli.Flags(Subcommand)
	paths, users := cli.Repeated(flags, "config"), cli.Repeated(flags, "user")
	run, asJSON, strict := flags.Bool("run", false, ""), flags.Bool("json", false, ""), flags.Bool("strict", false, "")
	fix, yes, create := flags.Bool("fix", false, ""), flags.Bool("yes", false, ""), flags.Bool("create", false, "")
	if err := flags.Parse(args); err != nil {
		return 0, cli.Usage(Subcommand, "%w", err)
	}
	switch {
	case flags.NArg() > 0:
		return 0, cli.Usage(Subcommand, "%q", flags.Args())
	case slices.Contains(*users, ""):
		return 0, cli.Usage(Subcommand, "-user needs a name")
	case *create && (!*fix || len(*users) == 0):
		return 0, cli.Usage(Subcommand, "-create needs -fix, and -user for whom to create")
	case *yes && !*fix:
		return 0, cli.Usage(Subcommand, "-yes needs -fix")
	case *fix && !*yes && !isTerminal(p.Stdin):
		return 0, cli.Usage(Subcommand, "-fix asks, which needs a terminal; -yes answers")
	case *fix && os.Geteuid() != 0:
		return 0, cli.Usage(Subcommand, "-fix needs root")
	}

	agent, agentErr := config.FromAgent(*paths...)
	options := Options{Agent: agent, AgentErr: agentErr, Users: *users, Version: p.Version, RunTest: p.RunTest}
	collect := func(ctx context.Context) []finding.Finding { return Collect(ctx, options) }
	var findings []finding.Finding
	if *fix {
		fixer := &fixer{collect: collect, run: shell, out: p.Stdout, confirm: func(ctx context.Context, commands int) bool {
			return *yes || ask(ctx, p.Stdin, p.Stderr, fmt.Sprintf("Run %s? [y/N] ", these(commands)))
		}}
		if *asJSON {
			fixer.out = p.Stderr
		}
		if *create {
			fixer.create = *users
		}
		if findings, err = fixer.fix(ctx); err != nil {
			return exitInterrupted, fmt.Errorf("%s: %w", Subcommand, err)
		}
	}
	if *run || *create {
		options.Run = func(user rootless.User) bool { return *run || slices.Contains(*users, user.Name) }
	}
	if !*fix || options.Run != nil {
		findings = collect(ctx)
	}
	if ctx.Err() != nil {
		return exitInterrupted, fmt.Errorf("%s: %w", Subcommand, errInterrupted)
	}
	if *asJSON {
		err = PrintJSON(p.Stdout, findings)
	} else {
		err = PrintText(p.Stdout, findings, coloured(p.Stdout))
		if mendable := len(planOf(findings, nil, nil)); mendable > 0 && !*fix && err == nil {
			_, err = fmt.Fprintf(p.Stdout, "As root, -fix can mend %d of them.\n", mendable)
		}
	}
	switch {
	case fails(findings) > 0:
		return exitNotReady, err
	case *strict && count(findings, finding.Warn) > 0:
		return exitWarnings, err
	}
	return 0, err
}

func these(commands int) string {
	if commands == 1 {
		return "this command"
	}
	return fmt.Sprintf("these %d commands", commands)
}
