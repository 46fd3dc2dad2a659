plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    disable_log_collection = true
  }
}
