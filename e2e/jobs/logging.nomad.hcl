# Tasks whose output goes other ways than most.
job "logging" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "journald" {
    task "rootless" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf 'a\\001b\\n\\n'; printf end"]
        logging {
          driver = "journald"
          options {
            tag = "e2e-rootless"
          }
        }
      }
      resources {
        memory = 32
      }
    }

    # The form that upstream's README has.
    task "rootful" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; seq -s , 1 20000"]
        socket  = "rootful"
        logging = {
          driver = "journald"
          options = [{
            tag = "e2e-{{.Name}}"
          }]
        }
      }
      resources {
        memory = 32
      }
    }
  }

  group "count" {
    task "count" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "seq 1 1000; until [ -e /local/go ]; do sleep 1; done; seq 1001 2000; echo done >&2; sleep 1d"]
        logging {
          driver = "journald"
        }
      }
      resources {
        memory = 32
      }
    }
  }

  group "disabled" {
    task "disabled" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "yes"
      }
      logs {
        disabled = true
      }
      resources {
        memory = 32
      }
    }

    task "disabled-journald" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo to the journal; sleep 1d"]
        logging {
          driver = "journald"
        }
      }
      logs {
        disabled = true
      }
      resources {
        memory = 32
      }
    }
  }

  # More than may wait for a reader, 64 MiB.
  group "flood" {
    task "flood" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "until [ -e /local/go ]; do sleep 1; done; dd if=/dev/zero bs=64k count=1280 2>/dev/null; touch /local/flooded; sleep 1d"]
      }
      resources {
        memory = 32
      }
    }
  }

  group "unknown-driver" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "unknown-driver" {
      driver = "podman"
      config {
        image = "busybox"
        logging {
          type = "json-file"
        }
      }
      resources {
        memory = 32
      }
    }
  }

  group "unknown-option" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "unknown-option" {
      driver = "podman"
      config {
        image = "busybox"
        logging {
          driver = "journald"
          options {
            max-size = "1m"
          }
        }
      }
      resources {
        memory = 32
      }
    }
  }
}
