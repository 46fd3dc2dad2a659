# The test listens at /run/e2e-mute.sock and never answers.
plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    socket {
      name        = "mute"
      socket_path = "/run/e2e-mute.sock"
    }
    socket {
      name             = "privileged"
      host_user        = "team-a"
      allow_privileged = true
      allow_caps       = ["CAP_SYS_TIME"]
    }
    allow_privileged    = false
    allow_caps          = ["NET_ADMIN"]
    client_http_timeout = "10s"
    state_dir           = "/var/lib/e2e-state"
  }
}
