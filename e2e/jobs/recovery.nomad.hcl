# A task that counts as long as it lives, and tasks that end when they are told to, each with a code of its own.
job "recovery" {
  type = "service"

  group "counter" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "counter" {
      kill_signal = "SIGKILL"
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "i=0; while :; do i=$((i + 1)); echo $i; usleep 50000; done"]
      }
      resources {
        memory = 32
      }
    }
  }

  group "ender" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "ender" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "until [ -e /local/code ]; do usleep 100000; done; exit $(cat /local/code)"]
      }
      resources {
        memory = 32
      }
    }
  }
}
