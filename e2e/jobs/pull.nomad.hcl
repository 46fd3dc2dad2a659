# Pulls of an image, without and with credentials, on a podman that records what it is sent.
job "pull" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "pull" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "without" {
      driver = "podman"
      config {
        image      = "busybox"
        force_pull = true
        command    = "true"
        socket     = "liar"
      }
      resources {
        memory = 32
      }
    }
    task "with" {
      driver = "podman"
      config {
        image      = "busybox"
        force_pull = true
        command    = "true"
        socket     = "liar"
        auth {
          username = "of-the-job"
          password = "secret-of-the-job"
        }
      }
      resources {
        memory = 32
      }
    }
  }
}
