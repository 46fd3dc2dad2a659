# Twenty endpoints.
plugin "nomad-driver-podman" {
  config {
    socket {
      name      = "a1"
      host_user = "team-a"
    }
    socket {
      name      = "b1"
      host_user = "team-b"
    }
    socket {
      name      = "c1"
      host_user = "team-c"
    }
    socket {
      name      = "d1"
      host_user = "team-d"
    }
    socket {
      name      = "a2"
      host_user = "team-a"
    }
    socket {
      name      = "b2"
      host_user = "team-b"
    }
    socket {
      name      = "c2"
      host_user = "team-c"
    }
    socket {
      name      = "d2"
      host_user = "team-d"
    }
    socket {
      name      = "a3"
      host_user = "team-a"
    }
    socket {
      name      = "b3"
      host_user = "team-b"
    }
    socket {
      name      = "c3"
      host_user = "team-c"
    }
    socket {
      name      = "d3"
      host_user = "team-d"
    }
    socket {
      name      = "a4"
      host_user = "team-a"
    }
    socket {
      name      = "b4"
      host_user = "team-b"
    }
    socket {
      name      = "c4"
      host_user = "team-c"
    }
    socket {
      name      = "d4"
      host_user = "team-d"
    }
    socket {
      name      = "a5"
      host_user = "team-a"
    }
    socket {
      name      = "b5"
      host_user = "team-b"
    }
    socket {
      name      = "c5"
      host_user = "team-c"
    }
    socket {
      name      = "d5"
      host_user = "team-d"
    }
  }
}
