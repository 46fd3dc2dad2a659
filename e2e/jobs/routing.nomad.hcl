# One task for each way to choose whose podman runs it.
job "routing" {
  type = "batch"

  restart {
    attempts = 0
    mode     = "fail"
  }
  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "unnamed" {
    task "unnamed" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        memory = 32
      }
    }
  }

  group "named" {
    task "named" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        socket  = "rootful"
      }
      resources {
        memory = 32
      }
    }
  }

  group "user" {
    task "user" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        host_user = "team-b"
      }
      resources {
        memory = 32
      }
    }
  }
}
