# What is started for host users ends soon after their last task.
plugin "nomad-driver-podman" {
  config {
    socket {
      host_user = "team-a"
    }
    rootless {
      allow_users   = ["team-*"]
      release_after = "5s"
    }
  }
}
