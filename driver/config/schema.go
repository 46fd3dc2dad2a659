package config

import (
	"strings"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

// TaskSchema is the schema of a task's config block.
func TaskSchema() *hclspec.Spec { return schema(TaskOptions) }

// PluginSchema is the schema of the plugin's config block.
func PluginSchema() *hclspec.Spec { return schema(PluginOptions) }

// schema makes Nomad's form of a table of options.
func schema(options []Option) *hclspec.Spec {
	return object(options, "")
}

// object makes the body of the block whose options' names begin with prefix.
func object(options []Option, prefix string) *hclspec.Spec {
	attributes := map[string]*hclspec.Spec{}
	for _, option := range options {
		name, inside := strings.CutPrefix(option.Name, prefix)
		if !inside || strings.Contains(name, ".") {
			continue
		}
		attributes[name] = attribute(options, option, name)
	}
	return hclspec.NewObject(attributes)
}

func attribute(options []Option, option Option, name string) *hclspec.Spec {
	switch option.Type {
	case Block:
		body := object(options, option.Name+".")
		// An absent block reads as an empty one, so that the defaults inside it hold.
		return hclspec.NewDefault(hclspec.NewBlock(name, false, body), emptyBlock(options, option.Name+"."))
	case BlockList:
		return hclspec.NewBlockList(name, object(options, option.Name+"."))
	case LooseBlock:
		return hclspec.NewAttr(name, "any", false) // the driver itself reads what is in it
	}
	spec := hclspec.NewAttr(name, option.Type, false)
	if option.Default != "" {
		spec = hclspec.NewDefault(spec, hclspec.NewLiteral(option.Default))
	}
	return spec
}

// emptyBlock is the literal of a block that holds only its defaults.
func emptyBlock(options []Option, prefix string) *hclspec.Spec {
	return hclspec.NewLiteral(emptyBlockText(options, prefix))
}

func emptyBlockText(options []Option, prefix string) string {
	var fields []string
	for _, option := range options {
		name, inside := strings.CutPrefix(option.Name, prefix)
		if !inside || strings.Contains(name, ".") {
			continue
		}
		value := option.Default
		switch {
		case option.Type == Block:
			value = emptyBlockText(options, option.Name+".")
		case value == "":
			value = "null"
		}
		fields = append(fields, name+" = "+value)
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}
