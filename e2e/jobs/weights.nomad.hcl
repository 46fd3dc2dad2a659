# Two host users who want the same processor, and more of one of them.
job "weights" {
  type = "batch"

  group "light" {
    task "light" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sh"
        args      = ["-c", "while :; do :; done"]
        host_user = "team-a"
      }
      resources {
        cpu    = 100
        memory = 32
      }
    }
  }

  group "heavy" {
    task "heavy" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sh"
        args      = ["-c", "while :; do :; done"]
        host_user = "team-b"
      }
      resources {
        cpu    = 400
        memory = 32
      }
    }
  }

  group "more" {
    task "more" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        host_user = "team-a"
      }
      resources {
        cpu    = 250
        memory = 32
      }
    }
  }
}
