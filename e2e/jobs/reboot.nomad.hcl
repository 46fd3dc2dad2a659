# A service and a batch task that are running when the machine is rebooted.
job "reboot" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "batch" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "batch" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap 'exit 0' TERM; echo ready; while :; do usleep 100000; done"]
      }
      resources {
        memory = 32
      }
    }
  }

  # Is tried again, as services are.
  group "service" {
    restart {
      attempts = 3
      delay    = "1s"
      mode     = "fail"
    }
    task "service" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo ready; sleep 1d"]
      }
      resources {
        memory = 32
      }
    }
  }
}
