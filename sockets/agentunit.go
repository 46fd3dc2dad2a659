package sockets

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

const (
	whyOwnMounts  = "what Nomad mounts is seen in the agent's own mount namespace only: tasks of root's podman cannot join the network of their group"
	whyHiddenHome = "no host user's podman can be reached"
	whyKilled     = "each restart of the agent kills the driver and what collects the tasks' logs, and log lines are lost"
	whyNamespaces = "the driver cannot show host users the directories of their tasks"
)

// agentSettings are the settings of a unit from which tasks suffer (systemd.exec(5), systemd.kill(5)). Its properties
// have the same names.
var agentSettings = []struct {
	name string
	// wrong gives the value as a unit file has it, empty when tasks do not suffer from it.
	wrong func(value any) string
	why   string
	mend  string // value for the unit file
	means finding.Status
}{
	{"ProtectHome", anyOf("yes", "tmpfs"), whyHiddenHome, "no", finding.Fail},
	{"RestrictNamespaces", withoutNamespaces, whyNamespaces, "no", finding.Fail},
	{"KillMode", anyOf("control-group", "mixed"), whyKilled, "process", finding.Warn},
	{"PrivateTmp", isOn, whyOwnMounts, "no", finding.Warn},
	{"PrivateDevices", isOn, whyOwnMounts, "no", finding.Warn},
	{"PrivateMounts", isOn, whyOwnMounts, "no", finding.Warn},
	{"ProtectControlGroups", isOn, whyOwnMounts, "no", finding.Warn},
	{"ProtectHome", anyOf("read-only"), whyOwnMounts, "no", finding.Warn},
	{"ProtectKernelLogs", isOn, whyOwnMounts, "no", finding.Warn},
	{"ProtectKernelModules", isOn, whyOwnMounts, "no", finding.Warn},
	{"ProtectKernelTunables", isOn, whyOwnMounts, "no", finding.Warn},
	{"ProtectSystem", anyOf("yes", "full", "strict"), whyOwnMounts, "no", finding.Warn},
	{"MountFlags", ownPropagation, whyOwnMounts, "", finding.Warn},
}

func isOn(value any) string {
	if on, _ := value.(bool); on {
		return "yes"
	}
	return ""
}

func anyOf(wrong ...string) func(any) string {
	return func(value any) string {
		if text, _ := value.(string); slices.Contains(wrong, text) {
			return text
		}
		return ""
	}
}

// withoutNamespaces: the property is a mask of the CLONE_NEW flags that are allowed.
func withoutNamespaces(value any) string {
	const needed = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	if allowed, is := value.(uint64); is && allowed&needed != needed {
		return "yes"
	}
	return ""
}

// ownPropagation: the property holds flags of mount(2).
func ownPropagation(value any) string {
	switch flags, _ := value.(uint64); {
	case flags&unix.MS_SLAVE != 0:
		return "slave"
	case flags&unix.MS_PRIVATE != 0:
		return "private"
	}
	return ""
}

// FindAgentUnit looks at the unit that runs the Nomad agent.
func FindAgentUnit(ctx context.Context, unit string) []finding.Finding {
	return []finding.Finding{findAgentUnit(ctx, unit, "/proc", connectHost)}
}

func findAgentUnit(ctx context.Context, unit, proc string, connect func(context.Context) (hostSystemd, error)) finding.Finding {
	const id = "agent-unit"
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	system, err := connect(ctx)
	if err != nil {
		return finding.Skip(id, finding.Host, "systemd cannot be asked for %s", unit)
	}
	defer system.Close()
	props, err := system.Properties(ctx, unit)
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	if load, _ := props["LoadState"].(string); load != "loaded" {
		return finding.Skip(id, finding.Host, "systemd has no unit %s (%s)", unit, printable(load))
	}
	active, _ := props["ActiveState"].(string)
	f := finding.Good(id, finding.Host, "%s is %s", unit, printable(active))
	if user, _ := props["User"].(string); user != "" && user != "root" && user != "0" {
		f.Seen += fmt.Sprintf("; it runs as %s, and can use that user's podman only", printable(user))
	}
	if suffers(&f, unit, props) {
		return f
	}
	if pid, _ := props["MainPID"].(uint32); pid != 0 && hasOwnMounts(proc, pid) {
		f.Status, f.Why = finding.Warn, whyOwnMounts
		f.Seen = fmt.Sprintf("the agent, process %d of %s, has a mount namespace of its own", pid, unit)
		f.Remedy = finding.Remedy{
			Commands: []string{finding.Command("systemctl", "restart", unit)},
			Advice:   "tasks go on while the agent is restarted; if it has one again, see the sandboxing settings of its unit (systemctl cat " + unit + ")",
		}
	}
	return f
}

// suffers tells in the finding which settings tasks suffer from, and how to set them otherwise. The drop-in always has all
// settings that may be wrong: it may have mended one of them already. It is not safe, for sandboxing is somebody's will.
func suffers(f *finding.Finding, unit string, props map[string]any) bool {
	var seen, why, lines []string
	for _, setting := range agentSettings {
		if line := setting.name + "=" + setting.mend; !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
		value := setting.wrong(props[setting.name])
		if value == "" {
			continue
		}
		if f.Status != finding.Fail {
			f.Status = setting.means
		}
		seen = append(seen, setting.name+"="+value)
		if !slices.Contains(why, setting.why) {
			why = append(why, setting.why)
		}
	}
	if len(seen) == 0 {
		return false
	}
	f.Seen = unit + " has " + strings.Join(seen, ", ")
	f.Why = strings.Join(why, "; ")
	f.Remedy = finding.Remedy{
		Commands: dropIn(unit, "Service", lines...),
		Advice:   "this ends the agent's sandboxing; a change of namespaces is effective when the agent is restarted (systemctl restart " + unit + "); tasks go on meanwhile",
	}
	return true
}

// dropIn are the commands that give a unit of the system's these settings (systemd.unit(5)), in a file of the driver's own
// that is read after those that an administrator is likely to have made.
func dropIn(unit, section string, settings ...string) []string {
	dir := "/etc/systemd/system/" + unit + ".d"
	text := fmt.Sprintf(`[%s]\n%s\n`, section, strings.Join(settings, `\n`))
	return []string{
		finding.Command("mkdir", "-p", dir),
		finding.Command("printf", text) + " >" + finding.Command(dir+"/zz-nomad-driver-podman.conf"),
		"systemctl daemon-reload",
	}
}

// hasOwnMounts tells whether a process is known to have another mount namespace than process 1 (namespaces(7)).
func hasOwnMounts(proc string, pid uint32) bool {
	host, err := os.Stat(filepath.Join(proc, "1/ns/mnt"))
	if err != nil {
		return false
	}
	agent, err := os.Stat(filepath.Join(proc, strconv.FormatUint(uint64(pid), 10), "ns/mnt"))
	return err == nil && !os.SameFile(host, agent)
}
