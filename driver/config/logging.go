package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Log drivers.
const (
	// LogNomad passes what a task prints on to Nomad, and keeps it nowhere else.
	LogNomad = "nomad"
	// LogJournald writes it to the host's journal, from where it is passed on to Nomad.
	LogJournald = "journald"
)

// logOptions are the log drivers and the options that each takes. podman passes nothing but the tag on to conmon.
var logOptions = map[string][]string{LogNomad: nil, LogJournald: {"tag"}}

// Logging is a logging block, a task's or the plugin's.
type Logging struct {
	// Driver is empty, and there are no options, when there is no block.
	Driver  string            `codec:"driver"`
	Options map[string]string `codec:"options"`
}

// check refuses a driver that is not known, and options that it does not take.
func (l Logging) check() error {
	known, found := logOptions[l.Driver]
	switch {
	case l.Driver == "" && len(l.Options) > 0:
		return fmt.Errorf("options need the driver that they are for; add driver = %q", LogJournald)
	case l.Driver == "":
		return nil
	case !found:
		return fmt.Errorf("the driver %q is not known; use %q or %q", l.Driver, LogNomad, LogJournald)
	}
	for _, option := range slices.Sorted(maps.Keys(l.Options)) {
		switch {
		case slices.Contains(known, option):
		case len(known) == 0:
			return fmt.Errorf("the driver %q takes no options, but there is %q; remove it, or use the driver %q, which takes %q", l.Driver, option, LogJournald, logOptions[LogJournald])
		default:
			return fmt.Errorf("the driver %q has no option %q; it takes %q", l.Driver, option, known)
		}
	}
	return nil
}

// parseLogging reads a logging block in any form: a block, a map, or a list of them, and the same for the options in it.
// As in Nomad's docker driver, type and config may stand for driver and options.
func parseLogging(raw any) (Logging, error) {
	fields, err := merged(raw)
	if err != nil {
		return Logging{}, err
	}
	var logging Logging
	for name, value := range fields {
		switch name {
		case "driver", "type":
			text, isText := scalar(value)
			if !isText || logging.Driver != "" && logging.Driver != text {
				return Logging{}, errors.New("driver (or type) must be the name of one driver")
			}
			logging.Driver = text
		case "options", "config":
			options, err := merged(value)
			if err != nil {
				return Logging{}, fmt.Errorf("%s: %w", name, err)
			}
			for option, value := range options {
				text, isText := scalar(value)
				if !isText {
					return Logging{}, fmt.Errorf("%s: %q must be a string", name, option)
				}
				if logging.Options == nil {
					logging.Options = map[string]string{}
				}
				logging.Options[option] = text
			}
		default:
			return Logging{}, fmt.Errorf("has no %q; it takes driver and options", name)
		}
	}
	return logging, logging.check()
}

// merged makes one map of a map or of a list of maps, which is how HCL's blocks arrive.
func merged(raw any) (map[string]any, error) {
	switch raw := raw.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return raw, nil
	case []any:
		all := map[string]any{}
		for _, element := range raw {
			one, err := merged(element)
			if err != nil {
				return nil, err
			}
			maps.Copy(all, one)
		}
		return all, nil
	}
	return nil, errors.New("must be a block or a map")
}

// scalar is the text of a string, a number or a bool.
func scalar(raw any) (string, bool) {
	switch raw := raw.(type) {
	case []byte:
		return string(raw), true
	case nil, []any, map[string]any:
		return "", false
	}
	return fmt.Sprint(raw), true
}
