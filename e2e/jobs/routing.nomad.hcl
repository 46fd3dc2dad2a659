# One task for each way to choose whose podman runs it.
job "routing" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "unnamed" {
    restart {
      attempts = 0
      mode     = "fail"
    }
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
    restart {
      attempts = 0
      mode     = "fail"
    }
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
    restart {
      attempts = 0
      mode     = "fail"
    }
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
