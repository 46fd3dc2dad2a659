plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    gc {
      dangling_containers {
        dry_run        = true
        creation_grace = "1s"
      }
    }
  }
}
