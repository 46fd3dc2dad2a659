package inventory

import (
	"context"
	"io"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/driver/config"
)

// Subcommand is the one whose body Main is.
const Subcommand = "sockets"

// Main prints what is known about the endpoints of this host.
func Main(ctx context.Context, args []string, out io.Writer) error {
	flags := cli.Flags(Subcommand)
	paths := cli.Repeated(flags, "config")
	asJSON := flags.Bool("json", false, "")
	if err := flags.Parse(args); err != nil {
		return cli.Usage(Subcommand, "%w", err)
	}
	if flags.NArg() > 0 {
		return cli.Usage(Subcommand, "%q", flags.Args())
	}
	agent, err := config.FromAgent(*paths...)
	if err != nil {
		return err
	}
	records, err := Collect(ctx, agent.Plugin)
	if err != nil {
		return err
	}
	if *asJSON {
		return PrintJSON(out, records)
	}
	return PrintTable(out, records)
}
