plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    gc {
      container = false
      dangling_containers {
        enabled = false
      }
    }
  }
}
