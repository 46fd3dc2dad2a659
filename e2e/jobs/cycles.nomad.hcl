# Many short runs.
job "cycles" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "cycle" {
    count = 20
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "cycle" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
      }
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
