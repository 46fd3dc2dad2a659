// Bench makes a report of what the benchmarks have printed (see run):
//
//	bench RESULTS REPOSITORY
//
// It replaces the chapter of the repository's README between two marks, and what is in docs/bench: the plots, and the
// results themselves in Go's benchmark format (https://go.dev/design/14313-benchmark-format).
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: bench RESULTS REPOSITORY")
		os.Exit(2)
	}
	if err := report(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func report(from, repository string) error {
	dir := filepath.Join(repository, "docs", "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r, err := read(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.txt"), r.text.Bytes(), 0o644); err != nil {
		return err
	}
	for name, draw := range plots {
		p, err := draw(r)
		if err == nil {
			err = p.Save(width, height, filepath.Join(dir, name+".svg"))
		}
		if err != nil {
			return fmt.Errorf("plot %s: %w", name, err)
		}
	}
	return r.writeChapter(filepath.Join(repository, "README.md"))
}

// results is what the benchmarks have printed, with values in base units (seconds, bytes).
type results struct {
	values map[string]map[string]float64 // by the benchmark's name and the unit
	config map[string]string
	text   bytes.Buffer // in Go's benchmark format
}

func read(path string) (*results, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	r := &results{values: map[string]map[string]float64{}, config: map[string]string{}}
	reader, writer := benchfmt.NewReader(file, path), benchfmt.NewWriter(&r.text)
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, record
		case *benchfmt.Result:
			if err := writer.Write(record); err != nil {
				return nil, err
			}
			r.add(record)
		}
	}
	return r, reader.Err()
}

func (r *results) add(record *benchfmt.Result) {
	base, parts := record.Name.Parts()
	name := string(base)
	for _, part := range parts {
		if part[0] == '/' { // not the number of processors
			name += string(part)
		}
	}
	values := map[string]float64{}
	for _, value := range record.Values {
		values[value.Unit] = value.Value
	}
	r.values[name] = values
	for _, config := range record.Config {
		r.config[config.Key] = string(config.Value)
	}
}

// value is a measured value. What was not measured is an error.
func (r *results) value(benchmark, unit string) (float64, error) {
	value, ok := r.values[benchmark][unit]
	if !ok {
		return 0, fmt.Errorf("benchmark %s has not reported %s", benchmark, unit)
	}
	return value, nil
}

//go:embed chapter.md
var chapter string

// writeChapter replaces what is between the marks.
func (r *results) writeChapter(path string) error {
	parsed, err := template.New("chapter").Funcs(template.FuncMap{
		"value":    r.value,
		"config":   func(key string) string { return r.config[key] },
		"add":      func(a, b float64) float64 { return a + b },
		"multiply": func(a, b float64) float64 { return a * b },
		"divide":   func(a, b float64) float64 { return a / b },
		"percent":  func(a, b float64) string { return fmt.Sprintf("%.2g %%", 100*a/b) },
		"number":   func(a float64) string { return fmt.Sprintf("%.0f", a) },
		"time":     func(a float64) string { return benchunit.Scale(a, benchunit.Decimal) + "s" },
		"memory":   func(a float64) string { return benchunit.Scale(a, benchunit.Binary) + "B" },
	}).Parse(chapter)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := parsed.Execute(&text, nil); err != nil {
		return err
	}
	const begin, end = "<!-- bench: begin -->\n", "<!-- bench: end -->"
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(content), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s has no marks for the chapter", path)
	}
	return os.WriteFile(path, []byte(before+begin+text.String()+end+after), 0o644)
}
