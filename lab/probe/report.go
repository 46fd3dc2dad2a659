package main

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Report is what a container sees. What cannot be read is left out.
type Report struct {
	PID          int
	UID, GID     int
	Groups       []int
	Args         []string
	Env          map[string]string
	Cwd          string
	Umask        string // octal
	Hostname     string
	Init         []string            // command line of process 1
	Capabilities map[string][]string // by set (effective, bounding, …): names without CAP_
	NoNewPrivs   bool
	Seccomp      int // 0 off, 1 strict, 2 filter
	AppArmor     string
	Rlimits      map[string]Rlimit // by name without RLIMIT_, small letters
	OOMScoreAdj  int
	Mounts       []Mount
	Sysctls      map[string]string
	ResolvConf   string
	Hosts        string
	Namespaces   map[string]string // "net": "net:[4026531840]"
	UIDMap       [][]string        // rows of /proc/self/uid_map
	GIDMap       [][]string
	Cgroup       string            // /proc/self/cgroup
	CgroupFiles  map[string]string // below /sys/fs/cgroup
	Devices      []string          // below /dev, links and directories left out
	Interfaces   []Interface
	TTY          bool  // stdout is a terminal
	ShmBytes     int64 // size of /dev/shm
}

// Rlimit is a pair of limits as text: a number, or "unlimited".
type Rlimit struct{ Soft, Hard string }

// Mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type Mount struct {
	Root, Point, Options, Type, Source, Super string
	Propagation                               string // "shared:1", "master:2", …; "" is private
}

// Interface is a network interface.
type Interface struct {
	Name, MAC string
	Addresses []string
}

// Look collects the report.
func Look() Report {
	status := fields("/proc/self/status")
	r := Report{
		PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		Args: os.Args, Env: environment(), Umask: status["Umask"],
		Init:         strings.Split(strings.TrimRight(text("/proc/1/cmdline"), "\x00"), "\x00"),
		Capabilities: map[string][]string{}, NoNewPrivs: status["NoNewPrivs"] == "1",
		Seccomp: number64(status["Seccomp"]), AppArmor: text("/proc/self/attr/current"),
		Rlimits: rlimits(), OOMScoreAdj: number64(text("/proc/self/oom_score_adj")),
		Mounts: mounts(text("/proc/self/mountinfo")), Sysctls: map[string]string{},
		ResolvConf: text("/etc/resolv.conf"), Hosts: text("/etc/hosts"),
		Namespaces: map[string]string{}, UIDMap: rows("/proc/self/uid_map"), GIDMap: rows("/proc/self/gid_map"),
		Cgroup: text("/proc/self/cgroup"), CgroupFiles: map[string]string{},
		Devices: devices(), Interfaces: interfaces(),
	}
	r.Groups, _ = os.Getgroups()
	r.Cwd, _ = os.Getwd()
	r.Hostname, _ = os.Hostname()
	for set, key := range map[string]string{
		"inheritable": "CapInh", "permitted": "CapPrm", "effective": "CapEff", "bounding": "CapBnd", "ambient": "CapAmb",
	} {
		r.Capabilities[set] = capabilities(status[key])
	}
	for _, name := range sysctls {
		if value := text("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); value != "" {
			r.Sysctls[name] = value
		}
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		if link, err := os.Readlink("/proc/self/ns/" + name); err == nil {
			r.Namespaces[name] = link
		}
	}
	for _, name := range cgroupFiles {
		if value := text("/sys/fs/cgroup/" + name); value != "" {
			r.CgroupFiles[name] = value
		}
	}
	_, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	r.TTY = err == nil
	var fs unix.Statfs_t
	if unix.Statfs("/dev/shm", &fs) == nil {
		r.ShmBytes = int64(fs.Blocks) * fs.Bsize //nolint:gosec // far from 2^63
	}
	return r
}

// sysctls are those that belong to a namespace, so that a container may set them.
var sysctls = []string{
	"fs.mqueue.msg_max", "fs.mqueue.queues_max",
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shm_rmid_forced",
	"kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	"net.core.somaxconn", "net.ipv4.ip_forward", "net.ipv4.ip_local_port_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_keepalive_time",
	"net.ipv6.conf.all.disable_ipv6",
}

var cgroupFiles = []string{
	"cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.cpus.effective", "io.weight",
	"memory.high", "memory.low", "memory.max", "memory.min", "memory.swap.max", "memory.current", "pids.max", "pids.current",
}

// text is a file without the white space around it, or "".
func text(path string) string {
	content, err := os.ReadFile(path) //nolint:gosec // a fixed list
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func number64(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// fields reads lines of "key: value".
func fields(path string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text(path)) {
		key, value, _ := strings.Cut(line, ":")
		values[key] = strings.TrimSpace(value)
	}
	return values
}

// rows reads lines of words.
func rows(path string) [][]string {
	var all [][]string
	for line := range strings.Lines(text(path)) {
		all = append(all, strings.Fields(line))
	}
	return all
}

func environment() map[string]string {
	env := map[string]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// capabilityNames are by number (linux/capability.h).
var capabilityNames = strings.Fields(`
	CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
	NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
	SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

// capabilities names the bits of a set, given in hexadecimal.
func capabilities(hex string) []string {
	bits, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return nil
	}
	names := []string{}
	for i := range 64 {
		switch {
		case bits&(1<<i) == 0:
		case i < len(capabilityNames):
			names = append(names, capabilityNames[i])
		default:
			names = append(names, strconv.Itoa(i))
		}
	}
	return names
}

// limitNames are those of /proc/PID/limits (proc_pid_limits(5)), by setrlimit(2)'s.
var limitNames = map[string]string{
	"Max address space": "as", "Max core file size": "core", "Max cpu time": "cpu", "Max data size": "data",
	"Max file locks": "locks", "Max file size": "fsize", "Max locked memory": "memlock", "Max msgqueue size": "msgqueue",
	"Max nice priority": "nice", "Max open files": "nofile", "Max pending signals": "sigpending", "Max processes": "nproc",
	"Max realtime priority": "rtprio", "Max resident set": "rss", "Max stack size": "stack",
}

// rlimits are a child's: the Go runtime raises its own soft limit of open files, and
// gives children the one that it found.
func rlimits() map[string]Rlimit {
	table, err := exec.Command("cat", "/proc/self/limits").Output()
	if err != nil {
		return nil
	}
	limits := map[string]Rlimit{}
	for line := range strings.Lines(string(table)) {
		for long, name := range limitNames {
			if values, ok := strings.CutPrefix(line, long); ok {
				if words := strings.Fields(values); len(words) >= 2 {
					limits[name] = Rlimit{words[0], words[1]}
				}
			}
		}
	}
	return limits
}

func mounts(mountinfo string) []Mount {
	var all []Mount
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		own, fs := strings.Fields(before), strings.Fields(after)
		if len(own) < 6 || len(fs) < 3 {
			continue
		}
		all = append(all, Mount{
			Root: own[3], Point: own[4], Options: own[5], Propagation: strings.Join(own[6:], ","),
			Type: fs[0], Source: fs[1], Super: fs[2],
		})
	}
	return all
}

func devices() []string {
	names := map[string]bool{}
	for _, pattern := range []string{"/dev/*", "/dev/*/*"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			if info, err := os.Lstat(file); err == nil && info.Mode()&os.ModeDevice != 0 {
				names[strings.TrimPrefix(file, "/dev/")] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func interfaces() []Interface {
	links, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var all []Interface
	for _, link := range links {
		addresses, _ := link.Addrs()
		i := Interface{Name: link.Name, MAC: link.HardwareAddr.String()}
		for _, address := range addresses {
			i.Addresses = append(i.Addresses, address.String())
		}
		all = append(all, i)
	}
	return all
}
