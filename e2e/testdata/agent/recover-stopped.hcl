plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    recover_stopped = true
  }
}
