// Lab runs a virtual Debian machine with systemd, cgroup v2, Podman, an image
// registry and Nomad, in which the driver is tried and tested:
//
//	lab up [--ui]             a lab until Ctrl-C or "lab down"; --ui: Nomad's UI on this machine
//	lab ssh [-- CMD…]         a root shell (or a command) in the running lab, else in one of its own
//	lab run [--books] CMD…    a shell command in a lab of its own
//	lab exec [--books] BINARY ARGS…   a program of this machine in a lab of its own (go test -exec)
//	lab build                 makes what labs start from, unless it is there
//	lab books                 compares what Nomad thinks runs with what is there, in the running lab
//	lab down                  ends this user's running labs
//	lab clean                 removes what labs have cached
//
// The machine is built and booted once; every lab is restored from its saved state.
// See machine.go for how, and README's chapter on development for use.
//
// Environment: SUITE (trixie, bookworm or forky), NOMAD (another Nomad binary),
// LAB_PROCESSORS (1, which is the fastest where they are emulated), LAB_PLUGIN (the driver's binary; build/nomad-driver-podman when it exists; empty: none).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	code, err := dispatch(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// usageError is a command line that makes no sense; the process ends with 2.
type usageError string

func (e usageError) Error() string { return string(e) + " (see: lab help)" }

// command is a parsed command line.
type command struct {
	verb  string
	ui    bool
	books bool
	keep  bool
	args  []string
}

// parse reads the command line without the program's name.
func parse(args []string) (command, error) {
	if len(args) == 0 {
		return command{}, usageError("no verb given")
	}
	c := command{verb: args[0]}
	flags := flag.NewFlagSet("lab "+c.verb, flag.ContinueOnError)
	switch c.verb {
	case "up":
		flags.BoolVar(&c.ui, "ui", false, "open Nomad's UI to this machine")
	case "run", "exec":
		flags.BoolVar(&c.books, "books", false, "check the books afterwards")
		flags.BoolVar(&c.keep, "keep", false, "keep the machine when the command fails")
	case "ssh", "build", "books", "down", "clean", "help", "inside":
	default:
		return command{}, usageError(fmt.Sprintf("unknown verb %q", c.verb))
	}
	if err := flags.Parse(args[1:]); err != nil {
		return command{}, usageError(err.Error())
	}
	c.args = flags.Args()

	switch takes := c.verb; {
	case (takes == "run" || takes == "exec" || takes == "inside") && len(c.args) == 0:
		return command{}, usageError(fmt.Sprintf("lab %s: what?", c.verb))
	case (takes == "up" || takes == "build" || takes == "books" || takes == "down" || takes == "clean") && len(c.args) > 0:
		return command{}, usageError(fmt.Sprintf("lab %s takes no arguments", c.verb))
	}
	return c, nil
}

func dispatch(args []string) (int, error) {
	c, err := parse(args)
	if err != nil {
		return 2, err
	}
	switch c.verb {
	case "help":
		fmt.Print(help)
		return 0, nil
	case "inside":
		return inside(c.args)
	}

	set, err := newSettings()
	if err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	switch c.verb {
	case "up":
		return 0, up(ctx, set, c.ui)
	case "ssh":
		return shell(ctx, set, c.args)
	case "run", "exec":
		return runIn(ctx, set, c)
	case "build":
		return 0, buildOnly(ctx, set)
	case "books":
		return booksOfRunning(ctx, set)
	case "down":
		return 0, down(ctx, set)
	default:
		return 0, set.cache.clean()
	}
}

// exitCode turns the end of a child into the code that this process ends with.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

const help = `lab: virtual machines with Podman and Nomad

  lab up [--ui]                     a lab until Ctrl-C or "lab down"; --ui: Nomad's UI on this machine
  lab ssh [-- CMD...]               a root shell (or a command) in the running lab, else in one of its own
  lab run [--books] CMD...          a shell command in a lab of its own
  lab exec [--books] BINARY ARGS... a program of this machine in a lab of its own (go test -exec)
  lab build                         makes what labs start from, unless it is there
  lab books                         compares what Nomad thinks runs with what is there, in the running lab
  lab down                          ends this user's running labs
  lab clean                         removes what labs have cached

--books checks the books after the command. --keep keeps the machine when the command
or the books fail, for "lab ssh". Environment:
  SUITE       trixie (default), bookworm or forky
  NOMAD       another Nomad binary than the one that the lab builds
  LAB_PROCESSORS  of the machine; default 1, which is the fastest where they are emulated
  LAB_PLUGIN  the driver's binary (default: build/nomad-driver-podman, when it
              exists; empty: none)
`
