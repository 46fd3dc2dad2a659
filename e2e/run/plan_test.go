package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
)

// The plan in the repository has every test that is there.
func TestPlan(t *testing.T) {
	tests, err := findTests("..", "../conformance")
	must.NoError(t, err)
	must.MapContainsKey(t, tests, "TestRedis")
	must.MapContainsKey(t, tests, "TestConformanceExec")
	must.MapNotContainsKey(t, tests, "TestMain")
	planned, err := readPlan("../machines.hcl", tests)
	must.NoError(t, err)
	for _, tier := range []string{tierTest, tierFull} {
		_, err := planned.selectTests(tests, tier, ".")
		must.NoError(t, err)
	}
}

var someTests = map[string]string{"TestA": "e2e", "TestB": "e2e", "TestC": "e2e", "TestOther": "e2e/conformance"}

const somePlan = `
machine "one" {
  test = ["TestA", "TestB/some thing"]
  full = ["TestA/x", "TestA/y", "TestB"]
}
machine "two" {
  plugin = "crash"
  test   = ["TestC"]
}
machine "three" {
  full = ["TestOther"]
}
`

// planOf reads a text as a plan.
func planOf(t *testing.T, text string) (*plan, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "machines.hcl")
	must.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return readPlan(file, someTests)
}

func TestPlanRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, says string }{
		{"a test that is nowhere", `machine "one" { test = ["TestA", "TestB", "TestOther"] }`, "TestC is on no machine"},
		{"an unknown test", somePlan + `machine "four" { test = ["TestD"] }`, "there is no test TestD"},
		{"a test in both tiers", somePlan + `machine "four" { full = ["TestC"] }`, "TestC is there twice"},
		{"a part without its whole", somePlan + `machine "four" { full = ["TestC/x"] }`, "machine four does not have TestC itself"},
		{"two packages", somePlan + `machine "four" { test = ["TestOther", "TestC"] }`, "TestC is there twice"},
		{"two packages on a machine", `machine "one" { test = ["TestA", "TestB", "TestC", "TestOther"] }`, "are of two packages"},
		{"no plan", `machine`, "machines.hcl"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := planOf(t, tc.text)
			must.ErrorContains(t, err, tc.says)
		})
	}
}

func TestSelect(t *testing.T) {
	planned, err := planOf(t, somePlan)
	must.NoError(t, err)
	type chosen struct{ machine, run, skip string }
	for _, tc := range []struct {
		name, tier, pattern string
		want                []chosen
		entries             []string // of the first
	}{
		{
			"the first tier", tierTest, ".",
			[]chosen{{"one", `^TestA$|^TestB$/^some thing$`, `^TestA$/^x$|^TestA$/^y$`}, {"two", `^TestC$`, ""}},
			[]string{"TestA", "TestB/some thing"},
		},
		{
			"the full tier", tierFull, ".",
			[]chosen{{"one", `^TestA$/^x$|^TestA$/^y$|^TestB$`, `^TestB$/^some thing$`}, {"three", `^TestOther$`, ""}},
			[]string{"TestA/x", "TestA/y", "TestB"},
		},
		{"some tests", tierTest, "A|C", []chosen{{"one", `^TestA$`, `^TestA$/^x$|^TestA$/^y$`}, {"two", `^TestC$`, ""}}, []string{"TestA"}},
		{"subtests of any tier", tierTest, "TestA|TestB/x", []chosen{{"one", `^(TestA|TestB)$/x`, ""}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			selected, err := planned.selectTests(someTests, tc.tier, tc.pattern)
			must.NoError(t, err)
			var got []chosen
			for _, s := range selected {
				got = append(got, chosen{s.Name, s.run, s.skip})
			}
			must.Eq(t, tc.want, got)
			must.Eq(t, tc.entries, selected[0].entries)
		})
	}
}

func TestSelectRefuses(t *testing.T) {
	planned, err := planOf(t, somePlan)
	must.NoError(t, err)
	for _, tc := range []struct{ name, tier, pattern, says string }{
		{"no such test", tierTest, "TestD", "no test has a name that matches TestD"},
		{"a test of the other tier", tierTest, "TestOther", "TIER=full"},
		{"no such tier", "soak", ".", "TIER=soak"},
		{"no pattern", tierTest, "Test(", "RUN=Test("},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := planned.selectTests(someTests, tc.tier, tc.pattern)
			must.ErrorContains(t, err, tc.says)
		})
	}
}
