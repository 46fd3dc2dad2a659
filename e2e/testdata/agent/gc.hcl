plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    gc {
      dangling_containers {
        creation_grace = "1s"
      }
    }
  }
}
