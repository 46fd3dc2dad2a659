package config

import (
	"strings"
	"testing"

	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/shoenig/test/must"
)

// parse decodes config the way Nomad does: the job's map, through the schema, to the driver's bytes.
func parse(t *testing.T, spec *hclspec.Spec, config any) (*drivers.TaskConfig, error) {
	t.Helper()
	decoder, diags := hclspecutils.Convert(spec)
	must.False(t, diags.HasErrors(), must.Sprint(diags))
	value, _, errs := hclutils.ParseHclInterface(config, decoder, nil)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	cfg := &drivers.TaskConfig{Resources: &drivers.Resources{NomadResources: &structs.AllocatedTaskResources{}}}
	must.NoError(t, cfg.EncodeDriverConfig(value))
	return cfg, nil
}

func parseTask(t *testing.T, hcl string) (*Task, error) {
	t.Helper()
	cfg, err := parse(t, TaskSchema(), hclutils.HclConfigToInterface(t, "config {\n"+hcl+"\n}"))
	if err != nil {
		return nil, err
	}
	return DecodeTask(cfg)
}

func TestTaskForms(t *testing.T) {
	labels := hclutils.MapStrStr{"a": "1", "b": "2"}
	for name, hcl := range map[string]string{
		"block":           "labels {\n a = \"1\"\n b = \"2\"\n}",
		"assignment":      `labels = { a = "1", b = "2" }`,
		"list of maps":    `labels = [{ a = "1" }, { b = "2" }]`,
		"repeated blocks": "labels { a = \"1\" }\n labels { b = \"2\" }",
		"numbers":         `labels = { a = 1, b = 2 }`,
	} {
		t.Run(name, func(t *testing.T) {
			task, err := parseTask(t, `image = "docker://redis"`+"\n"+hcl)
			must.NoError(t, err)
			must.Eq(t, labels, task.Labels)
		})
	}
	task, err := parseTask(t, "image = \"redis\"\n port_map { db = \"6379\" }\n init = \"true\"")
	must.NoError(t, err)
	must.Eq(t, hclutils.MapStrInt{"db": 6379}, task.PortMap)
	must.True(t, task.Init)
}

func TestLoggingForms(t *testing.T) {
	want := Logging{Driver: "journald", Options: map[string]string{"tag": "x"}}
	for name, hcl := range map[string]string{
		"block":                    "logging {\n driver = \"journald\"\n options {\n tag = \"x\"\n }\n}",
		"block, assigned options":  "logging {\n driver = \"journald\"\n options = { tag = \"x\" }\n}",
		"block, listed options":    "logging {\n driver = \"journald\"\n options = [{ tag = \"x\" }]\n}",
		"assignment":               "logging = {\n driver = \"journald\"\n options = { tag = \"x\" }\n}",
		"assignment, listed":       "logging = {\n driver = \"journald\"\n options = [{ tag = \"x\" }]\n}",
		"list of maps":             `logging = [{ driver = "journald", options = { tag = "x" } }]`,
		"repeated blocks":          "logging {\n driver = \"journald\"\n options { tag = \"y\" }\n options { tag = \"x\" }\n}",
		"docker's":                 "logging {\n type = \"journald\"\n config {\n tag = \"x\"\n }\n}",
		"docker's, assigned":       "logging {\n type = \"journald\"\n config = { tag = \"x\" }\n}",
		"docker's with both names": "logging {\n driver = \"journald\"\n type = \"journald\"\n config { tag = \"x\" }\n}",
	} {
		t.Run(name, func(t *testing.T) {
			task, err := parseTask(t, "image = \"redis\"\n"+hcl)
			must.NoError(t, err)
			must.Eq(t, want, task.Logging)
		})
	}
	// What Nomad makes of a job's map, which JSON can say and HCL1 cannot.
	cfg, err := parse(t, TaskSchema(), hclutils.JsonConfigToInterface(t, `{"Config": {"image": "redis", "logging": {"driver": "journald", "options": {"tag": "x"}}}}`))
	must.NoError(t, err)
	task, err := DecodeTask(cfg)
	must.NoError(t, err)
	must.Eq(t, want, task.Logging)

	task, err = parseTask(t, "image = \"redis\"\n logging {\n driver = \"journald\"\n options { tag = 7 }\n}")
	must.NoError(t, err)
	must.Eq(t, "7", task.Logging.Options["tag"])
	task, err = parseTask(t, "image = \"redis\"\n logging { }")
	must.NoError(t, err)
	must.Eq(t, Logging{}, task.Logging)
}

func TestTaskDefaults(t *testing.T) {
	task, err := parseTask(t, `image = "docker://redis"`)
	must.NoError(t, err)
	must.Eq(t, "docker.io/library/redis:latest", task.ImageReference())
	must.Eq(t, "5m0s", task.PullTimeout.String())
	must.Nil(t, task.Auth.TLSVerify)
	must.Nil(t, task.Entrypoint)
}

func TestTaskParsed(t *testing.T) {
	task, err := parseTask(t, `
		image      = "localhost/tool:1"
		entrypoint = "/bin/tool"
		volumes    = ["data:/data", "/srv:/srv:ro,noexec"]
		tmpfs      = ["/run:size=1m"]
		auth {
			username   = "u"
			tls_verify = false
		}`)
	must.NoError(t, err)
	must.Eq(t, "localhost/tool:1", task.ImageReference())
	must.Eq(t, []string{"/bin/tool"}, task.Entrypoint)
	must.Len(t, 1, task.Warnings)
	must.Eq(t, []Mount{{Source: "data", Destination: "/data"}, {Source: "/srv", Destination: "/srv", Options: []string{"ro", "noexec"}}}, task.Binds)
	must.Eq(t, []Mount{{Destination: "/run", Options: []string{"size=1m"}}}, task.TmpfsMounts)
	must.False(t, *task.Auth.TLSVerify)

	task, err = parseTask(t, "image = \"a\"\n entrypoint = [\"/bin/sh\", \"-c\"]")
	must.NoError(t, err)
	must.Eq(t, []string{"/bin/sh", "-c"}, task.Entrypoint)
	must.Len(t, 0, task.Warnings)
}

func TestTaskRefused(t *testing.T) {
	for name, test := range map[string]struct{ hcl, says string }{
		"no image":             {``, `"image": is required`},
		"image name":           {`image = "Not An Image"`, `"Not An Image" is not an image reference`},
		"transport":            {`image = "oci:/x"`, `transport "oci" is not supported`},
		"unknown option":       {"image = \"a\"\n imago = \"b\"", "imago"},
		"volume":               {"image = \"a\"\n volumes = [\"/only\"]", `"volumes": "/only" is malformed`},
		"relative destination": {"image = \"a\"\n volumes = [\"/a:b\"]", `destination "b" must be an absolute path`},
		"tmpfs":                {"image = \"a\"\n tmpfs = [\"/a:b:c\"]", `"tmpfs": "/a:b:c" is malformed`},
		"both":                 {"image = \"a\"\n socket = \"x\"\n host_user = \"y\"", `"host_user": cannot stand together with "socket"`},
		"port":                 {"image = \"a\"\n port_map = { db = -1 }", `"db" = -1 is not a port`},
		"timeout":              {"image = \"a\"\n image_pull_timeout = \"-3s\"", `"image_pull_timeout": "-3s" must be more than zero`},
		"mode":                 {"image = \"a\"\n network_mode = \"bridge:x\"", `"network_mode": "bridge:x" is not known`},
		"entrypoint":           {"image = \"a\"\n entrypoint = { a = 1 }", `"entrypoint": must be a list of strings`},
		"type":                 {"image = \"a\"\n args = \"b\"", "args"},
		"log driver":           {"image = \"a\"\n logging { driver = \"json-file\" }", `"logging": the driver "json-file" is not known; use "nomad" or "journald"`},
		"log option":           {"image = \"a\"\n logging {\n driver = \"journald\"\n options { max-size = \"1m\" }\n}", `"logging": the driver "journald" has no option "max-size"; it takes ["tag"]`},
		"option of nomad":      {"image = \"a\"\n logging {\n driver = \"nomad\"\n options { tag = \"x\" }\n}", `"logging": the driver "nomad" takes no options, but there is "tag"`},
		"option of none":       {"image = \"a\"\n logging {\n options { tag = \"x\" }\n}", `"logging": options need the driver that they are for`},
		"two log drivers":      {"image = \"a\"\n logging {\n driver = \"nomad\"\n type = \"journald\"\n}", `"logging": driver (or type) must be the name of one driver`},
		"nested log option":    {"image = \"a\"\n logging {\n driver = \"journald\"\n options { tag = [\"x\"] }\n}", `"logging": options: "tag" must be a string`},
		"unknown in logging":   {"image = \"a\"\n logging {\n drivr = \"nomad\"\n}", `"logging": has no "drivr"; it takes driver and options`},
		"logging is a string":  {"image = \"a\"\n logging = \"journald\"", `"logging": must be a block or a map`},
		"working_dir":          {"image = \"a\"\n working_dir = \"b\"", `"working_dir": "b" is not an absolute path`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseTask(t, test.hcl)
			must.ErrorContains(t, err, test.says)
		})
	}
}

// What Nomad shows of a job that is all wrong is not all of it.
func TestErrorsAreBrief(t *testing.T) {
	_, err := parseTask(t, `volumes = ["`+strings.Repeat(`a", "`, 1000)+`a"]`)
	must.ErrorContains(t, err, "config option \"volumes\": \"a\" is malformed; the form is source:destination[:options]\nconfig option")
	must.Eq(t, maxError, len(err.Error()))
	_, err = parseTask(t, "image = \"a\"\n image_pull_timeout = \""+strings.Repeat("ü", maxError)+"\"")
	must.ErrorContains(t, err, `"image_pull_timeout": "üü`)
	must.StrHasSuffix(t, "ü…", err.Error())
}
