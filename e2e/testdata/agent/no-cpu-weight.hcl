# The weights of host users' slices are left alone.
plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    rootless {
      allow_users = ["team-*"]
      cpu_weight  = false
    }
  }
}
