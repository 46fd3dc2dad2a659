# Tasks that want more than they may have.
job "limits" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "forks" {
    task "forks" {
      driver = "podman"
      config {
        image      = "busybox"
        command    = "sh"
        args       = ["-c", "sh -c 'while :; do sleep 1d & done'; echo stopped; exec sleep 1d"]
        pids_limit = 20
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }

  group "hog" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "hog" {
      driver = "podman"
      config {
        image       = "probe"
        args        = ["memory", "256M"]
        memory_swap = "32m"
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }

  group "spinner" {
    task "spinner" {
      driver = "podman"
      config {
        image          = "busybox"
        command        = "sh"
        args           = ["-c", "while :; do :; done"]
        cpu_hard_limit = true
      }
      resources {
        cpu    = 500
        memory = 32
      }
    }
  }
}
