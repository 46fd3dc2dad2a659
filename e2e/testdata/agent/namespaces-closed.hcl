# team-b's tasks run on a host user that their namespace may not use any more.
plugin "nomad-driver-podman" {
  config {
    socket {
      name       = "team-b"
      host_user  = "team-b"
      namespaces = ["others"]
    }
    socket {
      host_user = "team-a"
    }
    rootless {
      allow_users = ["team-*"]
    }
    recover_stopped = true
  }
}
