package preflight

import (
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

func TestKernel(t *testing.T) {
	for release, want := range map[string]finding.Status{
		"4.18.0-553.el8_10.x86_64": finding.Fail,
		"5.11.22":                  finding.Fail,
		"5.12.0":                   finding.Warn,
		"5.13.0":                   finding.OK,
		"6.1.0-28-amd64":           finding.OK,
		"7.0-rc1":                  finding.OK,
		"unknown":                  finding.Warn,
	} {
		f := kernel(release)
		must.Eq(t, want, f.Status, must.Sprint(release))
		must.StrContains(t, f.Seen, release)
		must.Eq(t, want == finding.OK, f.Why == "", must.Sprint(release))
	}
	must.Eq(t, "kernel", findKernel().ID)
}
