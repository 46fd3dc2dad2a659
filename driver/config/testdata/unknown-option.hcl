plugin "nomad-driver-podman" {
  config {
    rootless {
      allow_user = ["team-a"]
    }
  }
}
