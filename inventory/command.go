package inventory

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"nomad-driver-podman/driver/config"
)

// Subcommand is the one whose body Main is.
const Subcommand = "sockets"

// ErrUsage is wrapped by Main's errors about its arguments.
var ErrUsage = errors.New("wrong arguments")

// Main prints what is known about the endpoints of this host.
func Main(ctx context.Context, args []string, out io.Writer) error {
	var paths []string
	flags := flag.NewFlagSet(Subcommand, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints errors
	flags.Func("config", "", func(path string) error { paths = append(paths, path); return nil })
	asJSON := flags.Bool("json", false, "")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%s: %w: %w", Subcommand, ErrUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: %w: %q", Subcommand, ErrUsage, flags.Args())
	}
	plugin, err := config.FromAgent(paths...)
	if err != nil {
		return err
	}
	records, err := Collect(ctx, plugin)
	if err != nil {
		return err
	}
	if *asJSON {
		return PrintJSON(out, records)
	}
	return PrintTable(out, records)
}
