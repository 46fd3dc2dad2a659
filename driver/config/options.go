// Package config holds the driver's configuration: one table of options, from which the schemas that Nomad checks
// jobs and agent configurations against and README's chapter are made, and the structs that they decode into.
package config

// Option is one row of the table: a setting of a task's config block or of the plugin's.
type Option struct {
	// Name is the option's path, with a dot between a block and what is in it ("auth.username").
	Name string
	// Type is the option's type in HCL's type syntax ("string", "list(map(string))"), or one of the block types below.
	Type string
	// Default is what holds when the option is absent, as an HCL literal. Empty: the type's zero value, or what Doc says.
	Default string
	// Doc is one line for people.
	Doc string
	// Rootless and Rootful say how the option applies on each kind of endpoint: "yes", or in words what differs.
	Rootless, Rootful string
	// Proof names the end-to-end test that shows the option in a running task or agent.
	Proof string
}

const (
	// Block is the type of a block that may stand once.
	Block = "block"
	// BlockList is the type of a block that may be repeated.
	BlockList = "block list"
	// LooseBlock is the type of a block that may also be written as a map or as a list of maps.
	LooseBlock = "block or map"
)

// TaskOptions is the table of a task's config block.
var TaskOptions = []Option{
	{"image", "string", "", "Image to run, required: `docker://name[:tag]`, a full reference, or a short name that the host user's `registries.conf` resolves.", yes, yes, "TestImage"},
	{"command", "string", "", "Program to run instead of the image's command.", yes, yes, "TestCommand"},
	{"args", "list(string)", "", "Arguments of `command`, or of the image's entrypoint when there is no command.", yes, yes, "TestCommand"},
	{"entrypoint", "any", "", "Replaces the image's entrypoint: a list; a string is taken as a list of one, with a warning.", yes, yes, "TestCommand"},
	{"working_dir", "string", "", "Working directory in the container.", yes, yes, "TestCommand"},
	{"labels", "list(map(string))", "", "Labels of the container, besides those that mark its allocation, task and node.", yes, yes, "TestContainer"},
	{"hostname", "string", "", "Host name in the container.", yes, yes, "TestCommand"},
	{"init", "bool", "false", "Run a small init as process 1, which reaps orphans and passes signals on.", yes, yes, "TestContainer"},
	{"init_path", "string", "", "Path of that init on the host; podman's own when unset.", yes, yes, "TestContainer"},
	{"volumes", "list(string)", "", "Bind mounts, `source:destination[:options]`; a relative source lies in the task's directory.", yes, yes, "TestVolumes"},
	{"tmpfs", "list(string)", "", "Temporary file systems, `destination[:options]`.", yes, yes, "TestVolumes"},
	{"ports", "list(string)", "", "Labels of the group's ports to publish, tcp and udp.", yes, yes, "TestRedis"},
	{"port_map", "list(map(number))", "", "Deprecated: container port of each label of the task's own network block.", yes, yes, "TestPorts"},
	{"network_mode", "string", "", "`bridge`, `host`, `none`, `private`, `slirp4netns[:options]` or `pasta[:options]`. Unset: podman's own default. A group network wins.", "yes", "no `pasta`", "TestNetworkModes"},
	{"logging", LooseBlock, "", "Where the task's output goes. Unset: the plugin's `logging`.", yes, yes, "TestLogging"},
	{"logging.driver", "string", "", "`nomad`, or `journald`: the host's journal, and from there Nomad too. `type` is the same.", yes, yes, "TestLogging"},
	{"logging.options", "map(string)", "", "Options of the driver; `config` is the same. `journald` takes `tag`, which becomes `CONTAINER_TAG` and `SYSLOG_IDENTIFIER`.", yes, yes, "TestLogging"},
	{"cpu_hard_limit", "bool", "false", "Let the task use no more CPU than its `cpu` or `cores`, also when more is idle.", delegated, yes, "TestLimitOptions"},
	{"cpu_cfs_period", "number", "100000", "Over how many microseconds `cpu_hard_limit` holds, 1000 to 1000000.", delegated, yes, "TestLimitOptions"},
	{"memory_hard_limit", "number", "", "What the task may use at most, in MB, like `memory_max`; `memory` is then its reservation. The greater of the two holds.", delegated, yes, "TestLimitOptions"},
	{"memory_reservation", "string", "", "Memory that the task is left with when the host runs short: `128m`, in b, k, m or g. With a `memory_max` no more than `memory`.", delegated, yes, "TestLimitOptions"},
	{"memory_swap", "string", "", "Memory and swap together, at least the memory limit; `-1`: as much swap as there is. Unset: twice the memory limit.", delegated, yes, "TestLimitOptions"},
	{"memory_swappiness", "number", "", "How readily the task's memory is swapped out, 0 to 100. cgroup v2 has no such setting: a warning there.", "no", "cgroup v1", "TestLimitOptions"},
	{"pids_limit", "number", "", "How many processes and threads the task may have; `-1`: any number. Unset: podman's default, 2048.", delegated, yes, "TestLimitOptions"},
	{"privileged", "bool", "false", "Give the container every capability and device of the user that runs it.", yes, yes, "TestSecurity"},
	{"cap_add", "list(string)", "", "Capabilities to add.", yes, yes, "TestSecurity"},
	{"cap_drop", "list(string)", "", "Capabilities to drop.", yes, yes, "TestSecurity"},
	{"readonly_rootfs", "bool", "false", "Mount the image read-only.", yes, yes, "TestSecurity"},
	{"force_pull", "bool", "false", "Pull the image at each start, also when it is there.", yes, yes, "TestImage"},
	{"image_pull_timeout", "string", `"5m"`, "How long a pull may take.", yes, yes, "TestImage"},
	{"auth", Block, "", "Credentials for the image's registry.", yes, yes, "TestImage"},
	{"auth.username", "string", "", "User name.", yes, yes, "TestImage"},
	{"auth.password", "string", "", "Password.", yes, yes, "TestImage"},
	{"auth.tls_verify", "bool", "", "Whether to check the registry's certificate. Unset: `registries.conf` decides.", yes, yes, "TestImage"},
	{"socket", "string", "", "Name of the socket block to run on.", yes, yes, "TestRouting"},
	{"host_user", "string", "", "Host user whose podman runs the task; must match `rootless.allow_users`. Not together with `socket`.", yes, "no", "TestRouting"},
}

// PluginOptions is the table of the plugin's config block in the agent's configuration.
var PluginOptions = []Option{
	{"socket", BlockList, "", "An endpoint that tasks can name. Tasks that name none run on the one whose `default_for` names their namespace, else on the one called `default`, else on the first.", yes, yes, "TestRouting"},
	{"socket.name", "string", `"default"`, "Name of the endpoint.", yes, yes, "TestRouting"},
	{"socket.socket_path", "string", "", "Path of a podman API socket; `unix:` in front is accepted. It is used as it is found, never started.", yes, yes, "TestRouting"},
	{"socket.host_user", "string", "", "Host user whose podman socket this is: path derived, started when a task needs it. `root` is the rootful podman.", yes, yes, "TestRouting"},
	{"socket.namespaces", "list(string)", "", "Globs of the Nomad namespaces whose jobs may use it. Empty: all.", yes, yes, "TestNamespaces"},
	{"socket.default_for", "list(string)", "", "Globs of the Nomad namespaces whose tasks it runs when they name neither `socket` nor `host_user`.", yes, yes, "TestNamespaces"},
	{"socket.allow_privileged", "bool", "", "`allow_privileged` on this socket, also for tasks that name its host user.", yes, yes, "TestAgentConfig"},
	{"socket.allow_caps", "list(string)", "", "`allow_caps` on this socket, also for tasks that name its host user.", yes, yes, "TestAgentConfig"},
	{"socket_path", "string", "", "The only endpoint, when there is no socket block. Unset: the rootful podman as root, else the agent's own user's.", yes, yes, "TestRouting"},
	{"rootless", Block, "", "Host users that tasks may name.", yes, "no", "TestRouting"},
	{"rootless.allow_users", "list(string)", "", "Globs of the host users that a task's `host_user` may name. Empty: none.", yes, "no", "TestRouting"},
	{"rootless.namespaces", "list(string)", "", "Globs of the Nomad namespaces whose tasks may name a `host_user`. Empty: all. `namespaces` of that user's own socket blocks hold too.", yes, "no", "TestNamespaces"},
	{"rootless.min_uid", "number", "1000", "Users below this UID are refused.", yes, "no", "TestRouting"},
	{"rootless.linger", "bool", "true", "Enable lingering for host users, so that a logout does not end their tasks.", yes, "no", "TestRouting"},
	{"rootless.delegation", "string", `"warn"`, "What happens to tasks whose `cpu` or `memory` cannot hold, for want of a delegated controller: `warn` runs them with a warning, `require` fails them. Other limits always fail them.", yes, "no", "TestDelegation"},
	{"rootless.release_after", "string", "", "How long after its last task what the driver has started for a host user is kept: `podman.socket`, lingering, the user's manager. Unset: for ever.", yes, "no", "TestRelease"},
	{"rootless.cpu_weight", "bool", "true", "Set the `CPUWeight` of host users' slices by the sum of their tasks' `cpu`, so that tasks of different host users share processors by it ([how](docs/cpu.md)). Needs a root agent.", yes, "no", "TestWeights"},
	{"volumes", Block, "", "What tasks may mount.", yes, yes, "TestVolumes"},
	{"volumes.enabled", "bool", "true", "Whether `volumes` may name paths outside the allocation's directory.", yes, yes, "TestVolumes"},
	{"allow_privileged", "bool", "", "Whether tasks may be `privileged`. Unset: yes, unless `allow_caps` is set. With `false`, and no `allow_caps`, `cap_add` may name only what podman gives every container.", yes, yes, "TestAgentConfig"},
	{"allow_caps", "list(string)", "", "Capabilities that `cap_add` may name; `all` stands for every one. Unset: every one, unless `allow_privileged` is `false`.", yes, yes, "TestAgentConfig"},
	{"gc", Block, "", "What is removed when nobody needs it any more.", yes, yes, "TestGC"},
	{"gc.container", "bool", "true", "Remove a task's container when Nomad is done with the task. `false` keeps it, to be looked into.", yes, yes, "TestGC"},
	{"gc.dangling_containers", Block, "", "Containers of this node that no task owns. It is looked for them some time after the start, and when a task has ended.", yes, yes, "TestGC"},
	{"gc.dangling_containers.enabled", "bool", "true", "Remove them.", yes, yes, "TestGC"},
	{"gc.dangling_containers.dry_run", "bool", "false", "Only log what would be removed.", yes, yes, "TestGC"},
	{"gc.dangling_containers.creation_grace", "string", `"5m"`, "Leave younger ones alone, and look for the first time so long after the start.", yes, yes, "TestGC"},
	{"recover_stopped", "bool", "false", "Start a container again that is found ended when the agent comes back.", yes, yes, "TestRecoverStopped"},
	{"logging", LooseBlock, "", "`logging` of tasks that have none.", yes, yes, "TestLoggingOfTheNode"},
	{"logging.driver", "string", `"nomad"`, "As for tasks.", yes, yes, "TestLoggingOfTheNode"},
	{"logging.options", "map(string)", "", "As for tasks.", yes, yes, "TestLoggingOfTheNode"},
	{"disable_log_collection", "bool", "false", "Pass no logs on to Nomad. Output of tasks without `journald` goes where the host user's podman puts it by default.", yes, yes, "TestLoggingOfTheNode"},
	{"client_http_timeout", "string", `"60s"`, "How long podman may take to answer. Creating, pulling and waiting have deadlines of their own.", yes, yes, "TestAgentConfig"},
	{"state_dir", "string", "", "Directory for the driver's own records. Default: `/var/lib/nomad-driver-podman` as root, else `$XDG_STATE_HOME/nomad-driver-podman`.", yes, yes, "TestAgentConfig"},
}

const (
	// yes marks an option that applies as its Doc says.
	yes = "yes"
	// delegated marks one that needs a controller.
	delegated = "where [delegated](docs/delegation.md)"
)
