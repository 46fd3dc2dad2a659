package inventory

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"nomad-driver-podman/cli"
)

// PrintJSON writes the records as a JSON array.
func PrintJSON(out io.Writer, records []*Record) error {
	if records == nil {
		records = []*Record{}
	}
	return cli.PrintJSON(out, records)
}

// PrintTable writes a line for each record under a heading, then the reasons of those that have one.
func PrintTable(out io.Writer, records []*Record) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) error {
		for i, cell := range cells {
			if cell == "" {
				cells[i] = "-"
			}
		}
		_, err := fmt.Fprintln(table, strings.Join(cells, "\t"))
		return err
	}
	err := line("NAME", "STATE", "HOST USER", "UID", "MANAGER", "PODMAN.SOCKET", "CONTROLLERS", "PODMAN", "API", "TASKS",
		"NAMESPACES", "DEFAULT FOR", "AS HOST_USER", "PATH")
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := line(r.cells()...); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	between := "\n"
	for _, r := range records {
		if r.Reason == "" {
			continue
		}
		if _, err := fmt.Fprintf(out, "%s%s is %s: %s\n", between, r.Name, r.State, r.Reason); err != nil {
			return err
		}
		between = ""
	}
	return nil
}

func (r *Record) cells() []string {
	var uid, manager, socket, podman, api, tasks string
	if r.UID != nil {
		uid = strconv.FormatUint(uint64(*r.UID), 10)
	}
	if r.Manager != nil {
		manager = r.Manager.State
		if r.Manager.Lingers {
			manager += ",lingers"
		}
	}
	if r.SocketUnit != nil {
		socket = r.SocketUnit.State
		if r.SocketUnit.Masked {
			socket += ",masked"
		}
	}
	if r.Podman != nil {
		podman, api = r.Podman.Version, r.Podman.APIVersion
	}
	if r.Tasks != nil {
		tasks = strconv.Itoa(*r.Tasks)
	}
	defaultFor := r.DefaultFor
	if r.Default {
		defaultFor = append(defaultFor[:len(defaultFor):len(defaultFor)], "others")
	}
	list := func(of []string) string { return strings.Join(of, ",") }
	return []string{r.Name, string(r.State), r.HostUser, uid, manager, socket, list(r.Controllers), podman, api, tasks,
		list(r.Namespaces), list(defaultFor), list(r.HostUserNamespaces), r.Path}
}
