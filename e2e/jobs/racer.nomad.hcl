# A task that fills its logs, so that Nomad opens another file of them, as root, every few seconds, and one that waits for its
# next try, for which Nomad opens its logs before it asks the driver.
job "racer" {
  type = "batch"

  group "racer" {
    restart {
      attempts = 100
      interval = "1h"
      delay    = "0s"
      mode     = "fail"
    }
    task "racer" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "while :; do yes 'what root must not write elsewhere' | head -c 100000; usleep 200000; done"]
      }
      logs {
        max_files     = 5
        max_file_size = 1
      }
      resources {
        memory = 32
      }
    }
  }

  group "waiting" {
    restart {
      attempts = 1
      interval = "2h"
      delay    = "1h"
      mode     = "delay"
    }
    task "waiting" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "until [ -e /local/go ]; do usleep 100000; done; exit 1"]
      }
      resources {
        memory = 32
      }
    }
  }
}
