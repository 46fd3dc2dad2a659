package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/zclconf/go-cty/cty/msgpack"
)

const (
	// PluginName is what an agent's configuration calls the plugin: the name of its file.
	PluginName = "nomad-driver-podman"
	// AgentConfig is where Nomad's packages put the agent's configuration.
	AgentConfig = "/etc/nomad.d"
)

// FromAgent reads the plugin's config block out of an agent's configuration: HCL or JSON files and directories of them,
// as `nomad agent -config` takes them, of which later ones win. Without paths it reads AgentConfig or, when that is not
// there, an empty block. Errors name the file, and the option when one is wrong.
func FromAgent(paths ...string) (*Plugin, error) {
	if len(paths) == 0 {
		if _, err := os.Stat(AgentConfig); errors.Is(err, fs.ErrNotExist) {
			return fromBlock(nil)
		}
		paths = []string{AgentConfig}
	}
	var block map[string]any
	var from string // the file that has the block
	for _, path := range paths {
		files, err := agentFiles(path)
		if err != nil {
			return nil, fmt.Errorf("agent configuration: %w", err)
		}
		for _, file := range files {
			found, err := readBlock(file)
			if err != nil {
				return nil, fmt.Errorf("agent configuration %s: %w", file, err)
			}
			// Nomad does not merge what is in two blocks: the last that has something in it counts.
			if found != nil && (from == "" || len(found.Config) > 0) {
				block, from = found.Config, file
			}
		}
	}
	if from == "" {
		return nil, fmt.Errorf("agent configuration %s: there is no block plugin %q, and Nomad loads no plugin without one", strings.Join(paths, ", "), PluginName)
	}
	plugin, err := fromBlock(block)
	if err != nil {
		return nil, fmt.Errorf("agent configuration %s: %w", from, err)
	}
	return plugin, nil
}

// agentFiles are the files that Nomad reads for a path, in its order (command/agent.LoadConfigDir).
func agentFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		name := entry.Name()
		isConfig := strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".json")
		if isConfig && !entry.IsDir() && !strings.HasPrefix(name, ".#") { // as Emacs calls its locks
			files = append(files, filepath.Join(path, name))
		}
	}
	return files, nil
}

// pluginBlock is a plugin block of an agent's configuration (nomad/structs/config.PluginConfig), without args, which
// Nomad gives to a plugin's process only.
type pluginBlock struct {
	Name   string         `hcl:",key"`
	Config map[string]any `hcl:"config"`
}

// readBlock reads the plugin's block out of one file: the last one, or nil when there is none.
func readBlock(file string) (*pluginBlock, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var content struct {
		Plugins []*pluginBlock `hcl:"plugin"`
	}
	if err := hcl.Decode(&content, string(text)); err != nil {
		return nil, err
	}
	var last *pluginBlock
	for _, plugin := range content.Plugins {
		if plugin.Name == PluginName {
			last = plugin
		}
	}
	return last, nil
}

// fromBlock decodes a block the way that Nomad and the plugin together do: Nomad checks it against the plugin's schema
// and hands it over as msgpack (helper/pluginutils/loader).
func fromBlock(block map[string]any) (*Plugin, error) {
	if block == nil {
		block = map[string]any{} // in which all defaults hold
	}
	spec, diagnostics := hclspecutils.Convert(PluginSchema())
	if diagnostics.HasErrors() {
		return nil, fmt.Errorf("schema of the plugin: %w", diagnostics)
	}
	value, _, errs := hclutils.ParseHclInterface(block, spec, nil)
	if len(errs) > 0 {
		return nil, fmt.Errorf("block plugin %q: %w", PluginName, errors.Join(errs...))
	}
	data, err := msgpack.Marshal(value, value.Type())
	if err != nil {
		return nil, fmt.Errorf("block plugin %q: %w", PluginName, err)
	}
	return DecodePlugin(data)
}
