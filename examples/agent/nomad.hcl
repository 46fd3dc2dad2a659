# The Nomad client of one node whose containers belong to host users.
#
# Everything listens on the loopback address: on a real node, bind_addr and
# advertise name the address that the cluster reaches it at.
bind_addr = "127.0.0.1"

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

# The server (server.hcl) on the same machine has Nomad's usual port 4646.
ports {
  http = 4656
}

# Root's, mode 0700. It stays closed: the driver shows each host user the
# directories of that user's own tasks, and nothing else.
data_dir   = "/opt/nomad/data"
plugin_dir = "/opt/nomad/plugins"

client {
  enabled = true
  servers = ["127.0.0.1:4647"]

  # Where Debian's containernetworking-plugins puts the CNI plugins, which
  # group networks (network { mode = "bridge" }) need.
  cni_path = "/usr/lib/cni"
}
