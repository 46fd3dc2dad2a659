# Tasks whose limits need controllers that Debian delegates to host users, or does not.
job "delegation" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "plain" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "plain" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }

  group "cores" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "cores" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        cores  = 1
        memory = 32
      }
    }
  }
}
