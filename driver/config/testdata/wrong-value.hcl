plugin "nomad-driver-podman" {
  config {
    client_http_timeout = "soon"
  }
}
