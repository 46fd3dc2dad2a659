# Tasks run with their cpu and memory, or not at all.
plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    rootless {
      delegation = "require"
    }
  }
}
