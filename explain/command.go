// Package explain prints what is known about how an allocation's tasks have ended.
package explain

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/postmortem"
)

// Subcommand is the one whose body Main is.
const Subcommand = "explain"

// minPrefix is the least that must be given of an allocation's ID.
const minPrefix = 4

// Main prints what is known about how an allocation's tasks have ended.
func Main(args []string, out io.Writer) error {
	var allocs []string
	flags := cli.Flags(Subcommand)
	paths := cli.Repeated(flags, "config")
	task := flags.String("task", "", "")
	asJSON := flags.Bool("json", false, "")
	// Options may stand on both sides of the allocation.
	for rest := args; ; rest = flags.Args()[1:] {
		if err := flags.Parse(rest); err != nil {
			return cli.Usage(Subcommand, "%w", err)
		}
		if flags.NArg() == 0 {
			break
		}
		allocs = append(allocs, flags.Arg(0))
	}
	if len(allocs) != 1 {
		return cli.Usage(Subcommand, "name one allocation")
	}
	if len(allocs[0]) < minPrefix {
		return cli.Usage(Subcommand, "give at least %d characters of the allocation's ID", minPrefix)
	}
	agent, err := config.FromAgent(*paths...)
	if err != nil {
		return err
	}
	return explain(postmortem.In(agent.Plugin.StateDir), allocs[0], *task, *asJSON, out)
}

func explain(store *postmortem.Store, alloc, task string, asJSON bool, out io.Writer) error {
	// A directory that one may not read looks empty to Glob.
	if _, err := os.ReadDir(store.Dir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the records belong to the user that the agent runs as: %w", err)
	}
	records, err := store.Find(alloc, task)
	if len(records) == 0 { // else what is damaged is another task's, mostly
		of := ""
		if task != "" {
			of = fmt.Sprintf("task %q of ", task)
		}
		return errors.Join(err, fmt.Errorf("%s has no record of %sallocation %q: on this host none of it has ended badly in the last %d days, or the driver has another state_dir (-config)",
			store.Dir(), of, alloc, int(postmortem.KeptFor.Hours()/24)))
	}
	print := postmortem.PrintText
	if asJSON {
		print = postmortem.PrintJSON
	}
	return print(out, records)
}
