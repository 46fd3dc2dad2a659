// Nomad-driver-podman is a Nomad task driver plugin that runs tasks as Podman containers, rootless first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/driver"
	"nomad-driver-podman/explain"
	"nomad-driver-podman/inventory"
	"nomad-driver-podman/logs"
	"nomad-driver-podman/preflight"
)

// version is set when a release is built.
var version = "0.0.0-dev"

const usage = `usage: nomad-driver-podman            serve as a plugin; Nomad starts it so
       nomad-driver-podman sockets [-config FILE|DIR]... [-json]
                                     list the podman sockets of this host: whose they are,
                                     how they are, who may use them; -config names Nomad's
                                     own configuration, by default /etc/nomad.d
       nomad-driver-podman explain ALLOC [-task NAME] [-config FILE|DIR]... [-json]
                                     tell why tasks of an allocation have ended badly; the
                                     beginning of its ID is enough
       nomad-driver-podman preflight [-config FILE|DIR]... [-user NAME]... [-run] [-json] [-strict]
                                     tell whether this host is ready for tasks, and what is to
                                     be done; -user looks at a host user besides those of the
                                     configuration, -run starts a container for each; exits
                                     with 0 when ready, 2 when not, and with -strict 1 for
                                     warnings
       nomad-driver-podman preflight -fix [-yes] [-user NAME -create] ...
                                     mend what can be mended without harm: lists the commands,
                                     and asks before it runs them, unless -yes; -create makes
                                     the accounts that are named
       nomad-driver-podman logs …    carry containers' logs to Nomad; the plugin starts it so
       nomad-driver-podman version   print the version
`

// exitUsage is the exit status for a wrong command line (sysexits(3), EX_USAGE).
const exitUsage = 64

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		return servePlugin()
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	switch args[0] {
	case inventory.Subcommand:
		return status(inventory.Main(ctx, args[1:], os.Stdout))
	case explain.Subcommand:
		return status(explain.Main(args[1:], os.Stdout))
	case preflight.Subcommand:
		context.AfterFunc(ctx, stop) // a second signal ends what does not mind the first
		exit, err := preflight.Main(ctx, args[1:], preflight.Program{
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: version, RunTest: driver.RunTest,
		})
		return max(exit, status(err))
	case logs.Subcommand:
		return status(logs.Main(ctx, args[1:], hclog.New(&hclog.LoggerOptions{Name: logs.Subcommand})))
	case driver.RunTestSubcommand:
		return driver.RunTestMain(ctx, os.Stdout, os.Stderr)
	case "version", "-version", "--version":
		fmt.Println("nomad-driver-podman", version)
		return 0
	case "help", "-h", "-help", "--help":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprintf(os.Stderr, "nomad-driver-podman: unknown subcommand %q\n%s", args[0], usage)
	return exitUsage
}

// status is the exit status for what a subcommand has returned.
func status(err error) int {
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return 0
	case errors.Is(err, cli.ErrUsage):
		fmt.Fprintf(os.Stderr, "nomad-driver-podman: %s\n%s", err, usage)
		return exitUsage
	case err != nil:
		fmt.Fprintln(os.Stderr, "nomad-driver-podman:", err)
		return 1
	}
	return 0
}

// servePlugin serves the driver to the Nomad agent that has started this process.
func servePlugin() int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	// In this form and from this level on, Nomad takes the lines that it shows as its own (nomad/plugins.ServeCtx).
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: true})
	podman, err := driver.New(ctx, logger, version)
	if err != nil {
		logger.Error("cannot start the driver", "error", err)
		return 1
	}
	podman.Serve()
	return 0
}
