# Tasks mount what the node has, in a directory of team-a's, and nothing else of the host.
client {
  host_volume "shared" {
    path = "/srv/e2e/share/data"
  }
}

plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    socket {
      name      = "rootful"
      host_user = "root"
    }
    volumes {
      enabled = false
    }
  }
}
