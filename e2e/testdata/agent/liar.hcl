# The sockets of the liar are files of team-d's.
plugin "nomad-driver-podman" {
  config {
    gc {
      dangling_containers {
        creation_grace = "1m" # soon the driver asks for lists of containers
      }
    }
    socket {
      host_user = "team-a"
    }
    socket {
      name        = "liar"
      socket_path = "/run/user/2004/liar/liar.sock"
    }
    socket {
      name        = "too-old"
      socket_path = "/run/user/2004/liar/too-old.sock"
    }
    socket {
      name        = "too-new"
      socket_path = "/run/user/2004/liar/too-new.sock"
    }
  }
}
