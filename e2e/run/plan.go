package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsimple"
)

// The tiers. A plan has each test in one of them.
const (
	tierTest = "test" // what `make test` runs
	tierFull = "full" // what `make test-full` runs besides
)

// plan is the file machines.hcl: which tests share a machine, and in which tier they are.
type plan struct {
	Machines []*machine `hcl:"machine,block"`
}

// machine is a virtual machine that starts as clean as new and runs tests one after the other. A test is named as
// `go test -run` names it: TestA is all of it but for those of its subtests, TestA/sub, that the other tier has.
type machine struct {
	Name       string   `hcl:"name,label"`
	Plugin     string   `hcl:"plugin,optional"`     // the build tag of another driver than the usual one
	Processors int      `hcl:"processors,optional"` // 1 unless set
	Test       []string `hcl:"test,optional"`
	Full       []string `hcl:"full,optional"`
}

// entries are the machine's tests of a tier.
func (m *machine) entries(tier string) []string {
	if tier == tierFull {
		return m.Full
	}
	return m.Test
}

// readPlan reads the plan and checks it against the tests that there are, by name.
func readPlan(file string, tests map[string]string) (*plan, error) {
	p := &plan{}
	if err := hclsimple.DecodeFile(file, nil, p); err != nil {
		return nil, err
	}
	if err := p.check(tests); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, m := range p.Machines {
		m.Processors = max(1, m.Processors)
	}
	return p, nil
}

// check refuses a plan that lacks a test, knows one that is not there, or has one twice. Subtests cannot be looked up:
// one that nobody runs fails the run (selection.unknown).
func (p *plan) check(tests map[string]string) error {
	var errs []error
	home := map[string]*machine{}  // of whole tests
	named := map[string]*machine{} // any entry
	for _, m := range p.Machines {
		for _, entry := range slices.Concat(m.Test, m.Full) {
			if named[entry] != nil {
				errs = append(errs, fmt.Errorf("%s is there twice", entry))
			}
			named[entry] = m
			if name, _, isPart := strings.Cut(entry, "/"); !isPart {
				home[name] = m
			}
		}
	}
	dirs := map[*machine]string{}
	for _, entry := range slices.Sorted(maps.Keys(named)) {
		m := named[entry]
		name, _, _ := strings.Cut(entry, "/")
		dir, exists := tests[name]
		switch {
		case !exists:
			errs = append(errs, fmt.Errorf("there is no test %s", name))
		case home[name] != m:
			errs = append(errs, fmt.Errorf("%s: machine %s does not have %s itself in one of its tiers", entry, m.Name, name))
		case dirs[m] != "" && dirs[m] != dir:
			errs = append(errs, fmt.Errorf("the tests of machine %s are of two packages", m.Name))
		}
		dirs[m] = dir
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if home[name] == nil {
			errs = append(errs, fmt.Errorf("%s is on no machine: put it into the tier test or full of one", name))
		}
	}
	return errors.Join(errs...)
}

// findTests are the tests in the directories, with the directory that each is in.
func findTests(dirs ...string) (map[string]string, error) {
	found := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, declaration := range parsed.Decls {
				if function, ok := declaration.(*ast.FuncDecl); ok && isTest(function) {
					found[function.Name.Name] = dir
				}
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no test in %v: %w", dirs, os.ErrNotExist)
	}
	return found, nil
}

// isTest tells whether go test runs the function as a test: func TestXxx(*testing.T).
func isTest(function *ast.FuncDecl) bool {
	rest, named := strings.CutPrefix(function.Name.Name, "Test")
	if !named || rest == "" || function.Recv != nil || len(function.Type.Params.List) != 1 {
		return false
	}
	pointer, ok := function.Type.Params.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	selector, ok := pointer.X.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "T"
}

// selection is what one machine is to run.
type selection struct {
	*machine
	dir     string   // of the tests' package
	tests   []string // whole tests, of which parts may be left out
	entries []string // of the plan, all of which must have run
	run     string   // for go test's -run
	skip    string   // for go test's -skip
}

// selectTests returns what is to be run of a tier. The pattern selects tests as go test -run does. One with a slash asks
// for certain subtests, of whatever tier.
func (p *plan) selectTests(tests map[string]string, tier, pattern string) ([]*selection, error) {
	top, sub, withParts := strings.Cut(pattern, "/")
	named, err := regexp.Compile(top)
	if err != nil {
		return nil, fmt.Errorf("RUN=%s: %w", pattern, err)
	}
	if tier != tierTest && tier != tierFull {
		return nil, fmt.Errorf("TIER=%s: it is %s or %s", tier, tierTest, tierFull)
	}
	var selected []*selection
	elsewhere := false // the other tier has some
	for _, m := range p.Machines {
		s := &selection{machine: m}
		for _, entry := range slices.Concat(m.Test, m.Full) {
			name, _, _ := strings.Cut(entry, "/")
			if !named.MatchString(name) {
				continue
			}
			if !withParts && !slices.Contains(m.entries(tier), entry) {
				elsewhere = true
				continue
			}
			s.entries, s.dir = append(s.entries, entry), tests[name]
			if !slices.Contains(s.tests, name) {
				s.tests = append(s.tests, name)
			}
		}
		if len(s.entries) == 0 {
			continue
		}
		if withParts {
			s.run, s.entries = "^("+strings.Join(s.tests, "|")+")$/"+sub, nil
		} else {
			s.run = exactly(s.entries)
			s.skip = exactly(m.others(tier, s.entries))
		}
		selected = append(selected, s)
	}
	switch {
	case len(selected) > 0:
		return selected, nil
	case elsewhere:
		return nil, fmt.Errorf("no test of the tier %s has a name that matches %s, but the other tier has one: TIER=%s or TIER=%s", tier, top, tierTest, tierFull)
	default:
		return nil, fmt.Errorf("no test has a name that matches %s", top)
	}
}

// others are the entries of the other tier that are parts of these.
func (m *machine) others(tier string, entries []string) []string {
	other := m.Full
	if tier == tierFull {
		other = m.Test
	}
	var parts []string
	for _, part := range other {
		if slices.ContainsFunc(entries, func(whole string) bool { return strings.HasPrefix(part, whole+"/") }) {
			parts = append(parts, part)
		}
	}
	return parts
}

// exactly is the pattern that selects these tests and subtests alone. "": none are named.
func exactly(names []string) string {
	var patterns []string
	for _, name := range names {
		var levels []string
		for level := range strings.SplitSeq(name, "/") {
			levels = append(levels, "^"+regexp.QuoteMeta(level)+"$")
		}
		patterns = append(patterns, strings.Join(levels, "/"))
	}
	return strings.Join(patterns, "|")
}
