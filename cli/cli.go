// Package cli is what the command lines of the subcommands have in common.
package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
)

// ErrUsage is wrapped by errors about a command line.
var ErrUsage = errors.New("wrong arguments")

// Usage is an error about the command line of a subcommand. It wraps ErrUsage, and what format wraps.
func Usage(subcommand, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", subcommand, ErrUsage, fmt.Errorf(format, args...))
}

// Flags are the flags of a subcommand. They print nothing: the caller does.
func Flags(subcommand string) *flag.FlagSet {
	flags := flag.NewFlagSet(subcommand, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// Repeated is a flag that may be given several times.
func Repeated(flags *flag.FlagSet, name string) *[]string {
	var values []string
	flags.Func(name, "", func(value string) error { values = append(values, value); return nil })
	return &values
}

// PrintJSON writes a value as a program and a person can read it.
func PrintJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
