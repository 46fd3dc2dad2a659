package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

var update = flag.Bool("update", false, "write the tables of options into README.md")

const (
	readme      = "../../README.md"
	beginMarker = "<!-- options: begin -->\n"
	endMarker   = "<!-- options: end -->"
)

// README's tables are those of the code: run this test with -update after a change of options.
func TestReadmeHasTheOptions(t *testing.T) {
	text, err := os.ReadFile(readme)
	must.NoError(t, err)
	before, rest, found := strings.Cut(string(text), beginMarker)
	must.True(t, found)
	_, after, found := strings.Cut(rest, endMarker)
	must.True(t, found)
	want := before + beginMarker + chapter() + endMarker + after
	if *update {
		must.NoError(t, os.WriteFile(readme, []byte(want), 0o600))
		return
	}
	must.Eq(t, want, string(text), must.Sprint("run: go test ./driver/config -update"))
}

// chapter is README's part about options.
func chapter() string {
	return "### Options of tasks\n\n" + table(TaskOptions) + "\n### Options of the plugin\n\n" + table(PluginOptions)
}

func table(options []Option) string {
	var lines strings.Builder
	fmt.Fprintln(&lines, "| option | type | default | meaning | rootless | rootful |\n| --- | --- | --- | --- | --- | --- |")
	for _, option := range options {
		fmt.Fprintf(&lines, "| `%s` | %s | %s | %s | %s | %s |\n", option.Name, option.Type, code(option.Default), option.Doc, option.Rootless, option.Rootful)
	}
	return lines.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// Every option is proven by an end-to-end test that exists.
func TestOptionsHaveProofs(t *testing.T) {
	files, err := filepath.Glob("../../e2e/*_test.go")
	must.NoError(t, err)
	tests := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must.NoError(t, err)
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			tests[match[1]] = true
		}
	}
	for _, option := range append(TaskOptions, PluginOptions...) {
		if !tests[option.Proof] {
			t.Errorf("option %s: its proof %q is not a test in e2e/", option.Name, option.Proof)
		}
	}
}

// Every option of the table can be decoded: a struct field has its name.
func TestOptionsHaveFields(t *testing.T) {
	logging, err := os.ReadFile("logging.go")
	must.NoError(t, err)
	for _, source := range []struct {
		file    string
		options []Option
	}{{"task.go", TaskOptions}, {"plugin.go", PluginOptions}} {
		text, err := os.ReadFile(source.file)
		must.NoError(t, err)
		text = append(text, logging...)
		for _, option := range source.options {
			name := option.Name[strings.LastIndex(option.Name, ".")+1:]
			must.StrContains(t, string(text), fmt.Sprintf("`codec:%q`", name))
		}
	}
}
