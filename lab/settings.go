package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// suites are the Debian releases that a lab can be.
var suites = []string{"trixie", "bookworm", "forky"}

// settings is what a lab is asked to be: where things are, and what the environment says.
type settings struct {
	root   string // the repository
	cache  cache
	suite  string
	nomad  string // another Nomad binary, or ""
	plugin string // the driver's binary, or ""

	processors int // of the machine
}

func newSettings() (*settings, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("nowhere to keep a lab's parts: %w", err)
	}
	set := &settings{root: root, cache: cache{dir: filepath.Join(user, "nomad-podman-lab")}, suite: "trixie", processors: 1}
	if suite := os.Getenv("SUITE"); suite != "" {
		if !slices.Contains(suites, suite) {
			return nil, fmt.Errorf("SUITE=%s: not one of %v", suite, suites)
		}
		set.suite = suite
	}
	if text := os.Getenv("LAB_PROCESSORS"); text != "" {
		if set.processors, err = strconv.Atoi(text); err != nil || set.processors < 1 {
			return nil, fmt.Errorf("LAB_PROCESSORS=%s: not a number from 1 on", text)
		}
	}
	if set.nomad, err = binary("NOMAD", ""); err != nil {
		return nil, err
	}
	set.plugin, err = binary("LAB_PLUGIN", filepath.Join(root, "build", "nomad-driver-podman"))
	return set, err
}

// binary is the absolute path of a binary that the environment names; where it names
// none, of the fallback when that exists. An empty variable or nothing to fall back
// to is "".
func binary(variable, fallback string) (string, error) {
	path, set := os.LookupEnv(variable)
	if _, err := os.Stat(fallback); !set && err == nil {
		return fallback, nil
	}
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s=%s is not a file", variable, path)
	}
	return filepath.Abs(path)
}

var moduleLine = regexp.MustCompile(`(?m)^module nomad-driver-podman$`)

// findRoot is the repository around the current directory (go test -exec runs
// programs in their package's directory), else around this program.
func findRoot() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, dir := range []string{here, filepath.Dir(program)} {
		for ; ; dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // a directory above the user's own
			if err == nil && moduleLine.Match(text) {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("not inside the repository of nomad-driver-podman")
}
