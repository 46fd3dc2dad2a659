//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
)

// troubles are what can be wrong with a host.
var troubles = []trouble{
	{
		what: "no podman", id: "podman", host: true, status: "fail", seen: "no podman", remedy: "apt-get install -y podman", mended: byTest,
		happen: func(t *testing.T, _ hostUser) func() { return hidden(t, "podman") },
	},
	{
		what: "no conmon", id: "conmon", host: true, status: "fail", seen: "no conmon", remedy: "apt-get install -y conmon", mended: byTest,
		happen: func(t *testing.T, _ hostUser) func() { return hidden(t, "conmon") },
	},
	{
		what: "no OCI runtime", id: "oci-runtime", host: true, status: "fail", seen: "no OCI runtime (crun or runc)", remedy: "apt-get install -y crun", mended: byTest,
		happen: func(t *testing.T, _ hostUser) func() { return hidden(t, "crun", "runc") },
	},
	{
		what: "no network helper", id: "network-helper", host: true, status: "fail", seen: "no ", remedy: "apt-get install -y", mended: byTest,
		happen: func(t *testing.T, _ hostUser) func() { return hidden(t, "pasta", "slirp4netns") },
	},
	{
		what: "podman.socket is masked for all", id: "podman-socket", status: "fail", seen: "/etc/systemd/user/podman.socket is masked",
		remedy: "systemctl --global unmask podman.socket", mended: byCommands,
		happen: func(t *testing.T, _ hostUser) func() {
			command(t, "systemctl", "--global", "mask", "podman.socket")
			return func() { command(t, "systemctl", "--global", "unmask", "podman.socket") }
		},
	},
	{
		what: "podman.socket is masked by the user", own: true, id: "podman-socket", status: "fail", seen: ".config/systemd/user/podman.socket is masked",
		remedy: "systemctl --user --machine=team-own@ unmask podman.socket", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.startManager(t)
			user.systemctl(t, "mask", "podman.socket")
			return goesWithUser
		},
	},
	{
		what: "lingering is off", own: true, id: "lingering", status: "warn", seen: "off", remedy: "loginctl enable-linger team-own", mended: byFix,
		happen: func(*testing.T, hostUser) func() { return goesWithUser },
	},
	{
		what: "no subordinate IDs", own: true, id: "subordinate-ids", status: "fail", seen: "team-own has 0 subordinate IDs in /etc/subuid",
		remedy: "usermod --add-subuids", mended: byFix,
		happen: func(t *testing.T, user hostUser) func() { return subordinate(t, user, "") },
	},
	{
		what: "few subordinate IDs", own: true, id: "subordinate-ids", status: "fail", seen: "team-own has 1000 subordinate IDs in /etc/subuid",
		remedy: "usermod --add-subuids", mended: byFix,
		happen: func(t *testing.T, user hostUser) func() {
			return subordinate(t, user, "team-own:900000000:1000\n")
		},
	},
	{
		what: "another user's subordinate IDs", own: true, id: "subordinate-ids", status: "fail", seen: "of team-a",
		remedy: "usermod --del-subuids", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			first, _ := teamA.subordinateIDs(t)
			return subordinate(t, user, fmt.Sprintf("team-own:%d:65536\n", first))
		},
	},
	{
		what: "newuidmap without its rights", id: "id-helpers", host: true, status: "fail", seen: "newuidmap has neither the setuid bit nor the capability",
		remedy: "chmod u+s", mended: byCommands,
		happen: func(t *testing.T, _ hostUser) func() { return unprivilegedHelper(t) },
	},
	{
		what: "no user namespaces", id: "user-namespaces", host: true, status: "fail", seen: "user.max_user_namespaces is 0",
		remedy: "sysctl -w user.max_user_namespaces=", mended: byCommands,
		happen: func(t *testing.T, _ hostUser) func() { return sysctl(t, "user.max_user_namespaces", "0") },
	},
	{
		what: "no user namespaces for users", id: "user-namespaces", host: true, status: "fail", seen: "kernel.unprivileged_userns_clone is 0",
		remedy: "sysctl -w kernel.unprivileged_userns_clone=1", mended: byCommands,
		happen: func(t *testing.T, _ hostUser) func() { return sysctl(t, "kernel.unprivileged_userns_clone", "0") }, // Debian's kernels have it
	},
	{
		what: "memory is not delegated", own: true, id: "delegation", status: "fail", seen: "memory not delegated", remedy: "Delegate=cpu cpuset io memory pids", mended: byFix,
		happen: func(t *testing.T, user hostUser) func() {
			withhold(t, "10-less.conf", "cpu pids")
			user.startManager(t)
			return goesWithUser
		},
	},
	{
		what: "cpuset is not delegated", own: true, id: "delegation", status: "warn", seen: "cpuset, io not delegated", remedy: "Delegate=cpu cpuset io memory pids", mended: byFix,
		happen: func(t *testing.T, user hostUser) func() {
			user.startManager(t) // Debian does not delegate it
			return goesWithUser
		},
	},
	{
		what: "storage driver vfs", own: true, id: "storage", status: "warn", seen: "vfs", remedy: "containers/storage.vfs", mended: byFix,
		happen: func(t *testing.T, user hostUser) func() {
			user.has(t, ".config/containers/storage.conf", "[storage]\ndriver = \"vfs\"\n")
			user.startManager(t)
			user.systemctl(t, "start", "podman.socket")
			return goesWithUser
		},
	},
	{
		what: "containers without cgroups", own: true, id: "containers-conf", status: "warn", seen: `containers.cgroups = "disabled" in /home/team-own/`,
		remedy: "99-nomad-driver-podman.conf", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.has(t, ".config/containers/containers.conf", "[containers]\ncgroups = \"disabled\"\n")
			return goesWithUser
		},
	},
	{
		what: "cgroups by podman itself", own: true, id: "containers-conf", status: "fail", seen: `engine.cgroup_manager = "cgroupfs" in /home/team-own/`,
		remedy: "99-nomad-driver-podman.conf", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.has(t, ".config/containers/containers.conf", "[engine]\ncgroup_manager = \"cgroupfs\"\n")
			return goesWithUser
		},
	},
	{
		what: "no runtime directory", own: true, id: "runtime-dir", status: "fail", seen: "does not exist, though the user's manager runs",
		remedy: "systemctl restart user-runtime-dir@", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.startManager(t)
			dir := fmt.Sprintf("/run/user/%d", user.uid)
			command(t, "umount", "--lazy", dir)
			must.NoError(t, os.Remove(dir))
			return goesWithUser
		},
	},
	{
		what: "another user's home", own: true, id: "home", status: "fail", seen: "/home/team-own is owned by root", remedy: "chown", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			must.NoError(t, os.Chown(user.home(), 0, 0))
			return goesWithUser
		},
	},
	{
		what: "no login shell", own: true, id: "account", status: "ok", seen: "UID ", mended: notNeeded,
		happen: func(t *testing.T, user hostUser) func() {
			command(t, "usermod", "--shell", "/usr/sbin/nologin", "--lock", user.name)
			return goesWithUser
		},
	},
	{
		what: "broken registries.conf", own: true, id: "registries-conf", status: "fail", seen: ".config/containers/registries.conf: ", remedy: "mv ", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.has(t, ".config/containers/registries.conf", "[[registry\n")
			return goesWithUser
		},
	},
	{
		what: "broken storage.conf", own: true, id: "storage-conf", status: "warn", seen: ".config/containers/storage.conf: ", remedy: "mv ", mended: byCommands,
		happen: func(t *testing.T, user hostUser) func() {
			user.has(t, ".config/containers/storage.conf", "[storage]\ndriver = overlay\n")
			return goesWithUser
		},
	},
	{
		what: "the home is full", own: true, id: "space", status: "fail", seen: "0B of 1MiB free at /home/team-own", remedy: "podman image prune", mended: byTest,
		happen: func(t *testing.T, user hostUser) func() {
			command(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=1m,mode=0700,uid=%d", user.uid), "tmpfs", user.home())
			must.Error(t, os.WriteFile(user.home("much"), make([]byte, 2<<20), 0o600))
			return func() { command(t, "umount", user.home()) }
		},
	},
	{
		what: "no plugin", id: "plugin", host: true, status: "fail", seen: pluginFile + " is not there", remedy: "install -D", mended: byFix,
		happen: func(t *testing.T, _ hostUser) func() { return aside(t, pluginFile) },
	},
	{
		what: "a socket of nobody's", id: "socket", of: "lost", status: "fail", seen: "team-lost", remedy: "useradd", mended: byBoth,
		block: socketOf("lost", "team-lost"),
		happen: func(t *testing.T, _ hostUser) func() {
			return func() { hostUser{"team-lost", lookupUID(t, "team-lost")}.remove(t) }
		},
	},
	{
		what: "the agent has temporary files of its own", id: "agent-unit", host: true, status: "warn", seen: "PrivateTmp=yes", remedy: "PrivateTmp=no", mended: byCommands,
		happen: func(t *testing.T, _ hostUser) func() {
			const dir = "/etc/systemd/system/nomad.service.d"
			must.NoError(t, os.MkdirAll(dir, 0o755))
			must.NoError(t, os.WriteFile(filepath.Join(dir, "10-private.conf"), []byte("[Service]\nPrivateTmp=true\n"), 0o644))
			command(t, "systemctl", "daemon-reload")
			return goesWithUser
		},
	},
	{
		what: "no CNI plugins", id: "cni", host: true, status: "warn", seen: "no bridge, ", remedy: "apt-get install -y containernetworking-plugins", mended: byTest,
		happen: func(t *testing.T, _ hostUser) func() { return aside(t, "/usr/lib/cni") },
	},
}
