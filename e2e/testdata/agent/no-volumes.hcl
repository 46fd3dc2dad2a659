plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    volumes {
      enabled = false
    }
  }
}
