# Tasks that do nothing.
job "bench" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "idle" {
    count = 50
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "idle" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      # The first process of a container ignores SIGTERM.
      kill_signal = "SIGKILL"
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
