# The Nomad client of a user who is not root. Its tasks are containers of that
# user's own podman. nomad.service beside this file runs it, and says where
# data_dir and plugin_dir are.
#
# Everything listens on the loopback address: on a real node, bind_addr and
# advertise name the address that the cluster reaches it at.
bind_addr = "127.0.0.1"

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

client {
  enabled = true
  servers = ["127.0.0.1:4647"]

  # podman makes the tasks' cgroups. Nomad leaves its own away where it cannot
  # make their parent. The default, nomad.slice, may be there from an agent of
  # root's: then no task would start ("failed to apply cgroup" in the log).
  cgroup_parent = "nomad-rootless.slice"
}

# Nomad loads no plugin that its configuration does not name. Without a socket
# block, tasks run in the podman of the agent's user.
plugin "nomad-driver-podman" {
  config {}
}
