plugin "nomad-driver-podman" {
  config {
    socket_path = "/run/first.sock"
  }
}

plugin "nomad-driver-podman" {
  config {
    socket_path = "/run/second.sock"
  }
}
