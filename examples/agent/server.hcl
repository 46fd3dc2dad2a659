# A Nomad server of its own for one machine: it keeps its answers and its jobs
# while the client agent (nomad.hcl, podman.hcl) is stopped or restarted.
#
# Everything listens on the loopback address: on a real cluster, bind_addr and
# advertise name the address that the other machines reach it at.
bind_addr = "127.0.0.1"

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

data_dir = "/opt/nomad/server"

server {
  enabled          = true
  bootstrap_expect = 1
}
