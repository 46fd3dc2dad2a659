package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/zclconf/go-cty/cty/msgpack"
	"golang.org/x/sys/unix"
)

const (
	// PluginName is what an agent's configuration calls the plugin: the name of its file.
	PluginName = "nomad-driver-podman"
	// AgentConfig is where Nomad's packages put the agent's configuration.
	AgentConfig = "/etc/nomad.d"
)

// Agent is what an agent's configuration says to the plugin, and where the agent has its files.
type Agent struct {
	Plugin *Plugin
	Files  []string // that were read, in this order
	// DataDir is empty where the configuration does not tell; then so are those below it.
	DataDir   string
	PluginDir string // default: plugins in the data directory
	AllocDir  string // of allocations; default: alloc in the data directory
	// CNIPath are the directories that have the CNI plugins, separated by colons.
	CNIPath string
	// CgroupParent is the cgroup below which the agent makes its own; empty is Nomad's default.
	CgroupParent string
}

// FromAgent reads an agent's configuration: HCL or JSON files and directories of them, as `nomad agent -config` takes
// them, of which later ones win. Without paths it reads AgentConfig or, when that is not there, nothing: then all
// defaults hold. Errors name the file, and the option when one is wrong; the agent is then what could be read, with an
// empty block for the plugin.
func FromAgent(paths ...string) (*Agent, error) {
	agent := &Agent{}
	block, from, err := agent.read(paths)
	agent.setDefaults()
	if err == nil {
		if agent.Plugin, err = fromBlock(block); err == nil {
			return agent, nil
		}
		err = fmt.Errorf("agent configuration %s: %w", from, err)
	}
	agent.Plugin, _ = fromBlock(nil) // which can go wrong in what is not in a file only, and still gives a plugin
	return agent, err
}

// read reads the files, and returns the plugin's config block and the file that has it.
func (a *Agent) read(paths []string) (block map[string]any, from string, err error) {
	if len(paths) == 0 {
		if _, err := os.Stat(AgentConfig); errors.Is(err, fs.ErrNotExist) {
			return nil, AgentConfig, nil
		}
		paths = []string{AgentConfig}
	}
	for _, path := range paths {
		files, err := agentFiles(path)
		if err != nil {
			return nil, "", fmt.Errorf("agent configuration: %w", err)
		}
		for _, file := range files {
			a.Files = append(a.Files, file)
			content, err := readFile(file)
			if err != nil {
				return nil, "", fmt.Errorf("agent configuration %s: %w", file, err)
			}
			a.merge(content)
			// Nomad does not merge what is in two blocks: the last that has something in it counts.
			if plugin := content.plugin(); plugin != nil && (from == "" || len(plugin.Config) > 0) {
				block, from = plugin.Config, file
			}
		}
	}
	if from == "" {
		return nil, "", fmt.Errorf("agent configuration %s: there is no block plugin %q, and Nomad loads no plugin without one", strings.Join(paths, ", "), PluginName)
	}
	return block, from, nil
}

// merge takes over what a file sets.
func (a *Agent) merge(f *agentFile) {
	set := func(value *string, to string) { *value = cmp.Or(to, *value) }
	set(&a.DataDir, f.DataDir)
	set(&a.PluginDir, f.PluginDir)
	set(&a.AllocDir, f.Client.AllocDir)
	set(&a.CNIPath, f.Client.CNIPath)
	set(&a.CgroupParent, f.Client.CgroupParent)
}

// setDefaults fills in what no file has set, as the agent does (command/agent.Command.readConfig).
func (a *Agent) setDefaults() {
	if a.DataDir != "" {
		a.PluginDir = cmp.Or(a.PluginDir, filepath.Join(a.DataDir, "plugins"))
		a.AllocDir = cmp.Or(a.AllocDir, filepath.Join(a.DataDir, "alloc"))
	}
	a.CNIPath = cmp.Or(a.CNIPath, "/opt/cni/bin")
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

// agentFile is what is read of one file.
type agentFile struct {
	DataDir   string `hcl:"data_dir"`
	PluginDir string `hcl:"plugin_dir"`
	Client    struct {
		AllocDir     string `hcl:"alloc_dir"`
		CNIPath      string `hcl:"cni_path"`
		CgroupParent string `hcl:"cgroup_parent"`
	} `hcl:"client"`
	Plugins []*pluginBlock `hcl:"plugin"`
}

// maxFile bounds a file of an agent's configuration, in bytes.
const maxFile = 1 << 20

func readFile(file string) (*agentFile, error) {
	text, err := readRegular(file)
	if err != nil {
		return nil, err
	}
	content := &agentFile{}
	return content, hcl.Decode(content, string(text))
}

// readRegular neither waits for what is not a file, such as a FIFO, nor reads without end.
func readRegular(file string) (_ []byte, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	return text, err
}

// plugin is the plugin's block: the last one, or nil when there is none.
func (f *agentFile) plugin() *pluginBlock {
	var last *pluginBlock
	for _, plugin := range f.Plugins {
		if plugin.Name == PluginName {
			last = plugin
		}
	}
	return last
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
