package rootless

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containers/common/pkg/config"

	"nomad-driver-podman/finding"
)

const idContainers = "containers-conf"

// containersFiles are the files of containers.conf(5), in the order in which podman reads them. Later ones win.
func (u User) containersFiles(root string) ([]settings, error) {
	system := filepath.Join(root, "/etc/containers/containers.conf")
	files := []settings{{path: filepath.Join(root, "/usr/share/containers/containers.conf")}, {path: system}}
	fragments, err := u.fragments(system+".d", false)
	files = append(files, fragments...)
	if err != nil || u.IsRoot() {
		return files, err
	}
	own := u.own("containers.conf")
	fragments, err = u.fragments(own+".d", true)
	return append(append(files, settings{path: own, own: true}), fragments...), err
}

// FindContainersConf looks at what the files of containers.conf(5) let the user's podman do to tasks.
func (u User) FindContainersConf() finding.Finding { return u.findContainersConf("") }

// findContainersConf looks at the system's files below a root.
func (u User) findContainersConf(root string) finding.Finding {
	files, err := u.containersFiles(root)
	if err != nil {
		return u.broken(idContainers, err)
	}
	var conf config.Config
	setIn := map[string]settings{} // by the key with its table
	for _, file := range files {
		meta, err := u.parse(file, &conf)
		if err != nil {
			return u.broken(idContainers, err)
		}
		for _, key := range meta.Keys() {
			setIn[key.String()] = file
		}
	}
	var seen, whys []string
	f := finding.Good(idContainers, u.Name, "nothing that changes what tasks get")
	note := func(status finding.Status, key, value, why string) {
		if f.Status != finding.Fail {
			f.Status = status
		}
		seen = append(seen, fmt.Sprintf("%s = %s in %s", key, value, setIn[key]))
		whys = append(whys, why)
	}
	var undo []string // what a fragment has to say
	if conf.Containers.Privileged {
		note(finding.Fail, "containers.privileged", "true", "the driver refuses containers with privileges that their task does not ask for")
		undo = append(undo, "[containers]", "privileged = false")
	}
	if conf.Containers.Cgroups == "disabled" {
		note(finding.Warn, "containers.cgroups", `"disabled"`, "what the user runs beside tasks has no limits")
		if undo == nil {
			undo = append(undo, "[containers]")
		}
		undo = append(undo, `cgroups = "enabled"`)
	}
	if conf.Engine.CgroupManager == config.CgroupfsCgroupsManager && !u.IsRoot() {
		note(finding.Fail, "engine.cgroup_manager", `"cgroupfs"`, "the driver refuses containers whose cgroup is not under the user's manager")
		undo = append(undo, "[engine]", `cgroup_manager = "systemd"`)
	}
	if altered := altered(conf.Containers, setIn); len(altered) > 0 {
		for _, key := range altered {
			seen = append(seen, key+" in "+setIn[key].String())
		}
		whys = append(whys, "tasks get it, too, and the driver cannot undo it")
		f.Remedy.Advice = "remove what tasks shall not have: " + strings.Join(altered, ", ")
		if f.Status == finding.OK {
			f.Status = finding.Warn
		}
	}
	if seen == nil {
		return f
	}
	f.Seen, f.Why = strings.Join(seen, ", "), strings.Join(whys, "; ")
	if f.Remedy.Commands = u.override(root, undo, files); f.Remedy.IsZero() {
		f.Remedy.Advice = "remove it there: no other file can overrule that one"
	}
	return f
}

// altered are the settings of the user's own that podman gives to containers of its API, and of which no request can say
// otherwise.
func altered(c config.ContainersConfig, setIn map[string]settings) []string {
	var keys []string
	for _, setting := range []struct {
		key string
		set bool
	}{
		{"annotations", len(c.Annotations.Get()) > 0},
		{"apparmor_profile", c.ApparmorProfile != ""},
		{"cgroup_conf", len(c.CgroupConf.Get()) > 0},
		{"default_capabilities", true},
		{"default_sysctls", len(c.DefaultSysctls.Get()) > 0},
		{"default_ulimits", len(c.DefaultUlimits.Get()) > 0},
		{"devices", len(c.Devices.Get()) > 0},
		{"env", len(c.Env.Get()) > 0},
		{"label", !c.EnableLabeling},
		{"no_hosts", c.NoHosts},
		{"oom_score_adj", true},
		{"pids_limit", true},
		{"seccomp_profile", c.SeccompProfile != ""},
		{"volumes", len(c.Volumes.Get()) > 0},
	} {
		if key := "containers." + setting.key; setting.set && setIn[key].own {
			keys = append(keys, key)
		}
	}
	return keys
}

// override are the commands that write a fragment which podman reads last. There are none where another one comes after it.
func (u User) override(root string, lines []string, files []settings) []string {
	dir := u.own("containers.conf.d")
	if u.IsRoot() {
		dir = filepath.Join(root, "/etc/containers/containers.conf.d")
	}
	path := filepath.Join(dir, "99-nomad-driver-podman.conf")
	if last := files[len(files)-1]; lines == nil || last.dropIn && filepath.Dir(last.path) == dir && last.path > path {
		return nil
	}
	shell := finding.Command("mkdir", "-p", dir) + " && " + finding.Command(append([]string{"printf", `%s\n`}, lines...)...) + " >" + finding.Command(path)
	if u.IsRoot() {
		return []string{shell}
	}
	return []string{u.command("sh", "-c", shell)}
}
