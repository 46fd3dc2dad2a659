# A task on a podman that lies. The test makes a group of this for each lie, which the task's name names.
job "liar" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "lie" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 10
    }
    task "lie" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        socket  = "liar"
      }
      kill_signal = "SIGKILL"
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 10
        memory = 16
      }
    }
  }
}
