# What an agent without root cannot use: the sockets of others, and a directory of root's.
client {
  host_volume "closed" {
    path = "/root"
  }
}

plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-d"
    }
    socket {
      name      = "other"
      host_user = "team-a"
    }
    socket {
      name        = "rootful"
      socket_path = "/run/podman/podman.sock"
    }
    rootless {
      allow_users = ["team-*"]
    }
  }
}
