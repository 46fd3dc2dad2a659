plugin "nomad-driver-podman" {
  config {
    recover_stopped = ["yes"]
  }
}
