//go:build e2e

package e2e

import (
	"encoding/json"
	"testing"

	"github.com/shoenig/test/must"
)

// report is what of lab/probe's report the tests look at: what a process in a container sees.
type report struct {
	Capabilities map[string][]string
	Devices      []string
	Interfaces   []struct {
		Name      string
		Addresses []string
	}
	Mounts     []struct{ Point, Options, Type string }
	ResolvConf string
}

// probe waits for the end of a task of the probe image and returns its report.
func (j *job) probe(t *testing.T, task string) report {
	t.Helper()
	var seen report
	must.NoError(t, json.Unmarshal([]byte(j.succeeded(t, task)), &seen))
	return seen
}

// addresses are those of a network interface, nil when there is none of that name.
func (r report) addresses(name string) []string {
	for _, link := range r.Interfaces {
		if link.Name == name {
			return append([]string{}, link.Addresses...)
		}
	}
	return nil
}

// mount describes what is mounted at a path: its type and its options.
func (r report) mount(t *testing.T, path string) (kind, options string) {
	t.Helper()
	for _, mount := range r.Mounts {
		if mount.Point == path {
			kind, options = mount.Type, mount.Options
		}
	}
	must.NotEq(t, "", kind, must.Sprintf("nothing is mounted at %s", path))
	return kind, options
}
