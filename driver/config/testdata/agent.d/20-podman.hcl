plugin "nomad-driver-podman" {
  config {
    volumes {
      enabled = false
    }
  }
}
