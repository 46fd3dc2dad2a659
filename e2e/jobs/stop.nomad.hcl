# Tasks that are asked to stop.
job "stop" {
  type = "batch"

  group "stop" {
    task "kill-signal" {
      driver      = "podman"
      kill_signal = "SIGINT"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", <<-SH
          trap 'echo got SIGINT; exit 3' INT
          trap 'echo got SIGTERM; exit 4' TERM
          echo ready
          while :; do usleep 100000; done
        SH
        ]
      }
      resources {
        memory = 32
      }
    }

    task "default-signal" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", <<-SH
          trap 'echo got SIGINT; exit 3' INT
          trap 'echo got SIGTERM; exit 4' TERM
          echo ready
          while :; do usleep 100000; done
        SH
        ]
      }
      resources {
        memory = 32
      }
    }

    task "deaf" {
      driver       = "podman"
      kill_timeout = "4s"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap '' TERM; echo ready; while :; do usleep 100000; done"]
      }
      resources {
        memory = 32
      }
    }
  }
}
