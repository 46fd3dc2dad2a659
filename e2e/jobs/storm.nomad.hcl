# Ten tasks of each of three host users.
job "storm" {
  type = "service"

  group "b" {
    count = 10
    ephemeral_disk {
      size = 20
    }
    task "b" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        host_user = "team-b"
      }
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

  group "c" {
    count = 10
    ephemeral_disk {
      size = 20
    }
    task "c" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        host_user = "team-c"
      }
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

  group "d" {
    count = 10
    ephemeral_disk {
      size = 20
    }
    task "d" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        host_user = "team-d"
      }
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
