plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    logging {
      driver = "journald"
      options {
        tag = "of-the-node"
      }
    }
  }
}
