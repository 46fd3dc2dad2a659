# Where Nomad waits for cgroups that an agent without root may not make.
client {
  cgroup_parent = "nomad.slice"
}
