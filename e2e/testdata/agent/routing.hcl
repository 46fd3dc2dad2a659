# No socket is called "default", so that the first one is it.
plugin "nomad-driver-podman" {
  config {
    socket {
      name      = "first"
      host_user = "team-c"
    }
    socket {
      name      = "system"
      host_user = "root"
    }
    socket {
      name      = "broken"
      host_user = "team-unknown"
    }
    rootless {
      allow_users = ["team-*"]
      min_uid     = 2003
      linger      = false
    }
  }
}
