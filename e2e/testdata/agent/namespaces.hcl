# A host user for each team; nobody but team-b may use team-b's.
plugin "nomad-driver-podman" {
  config {
    socket {
      name       = "team-b"
      host_user  = "team-b"
      namespaces = ["team-b"]

      default_for = ["team-b"]
    }
    socket {
      name        = "team-c"
      host_user   = "team-c"
      default_for = ["c-*"]
    }
    socket {
      host_user = "team-a"
    }
    rootless {
      allow_users = ["team-*"]
      namespaces  = ["default", "c-*"]
    }
  }
}
