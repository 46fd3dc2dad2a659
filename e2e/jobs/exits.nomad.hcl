# Tasks that end, each in its own way.
job "exits" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "zero" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "zero" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
      }
      resources {
        memory = 32
      }
    }
  }

  group "one" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "one" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "false"
      }
      resources {
        memory = 32
      }
    }
  }

  group "code-137" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "code-137" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "exit 137"]
      }
      resources {
        memory = 32
      }
    }
  }

  # Killed by the test.
  group "killed" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "killed" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        memory = 32
      }
    }
  }

  # Signalled by the test, through Nomad.
  group "signalled" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "signalled" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        init    = true
      }
      resources {
        memory = 32
      }
    }
  }

  # dd fills its buffer of 64 MiB when the test makes the file local/go.
  group "oom" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "oom" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "until [ -e /local/go ]; do usleep 50000; done; exec dd if=/dev/zero of=/dev/null bs=64M count=1"]
      }
      resources {
        memory = 32
      }
    }
  }

  # The same, before the driver could look at it.
  group "oom-at-once" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "oom-at-once" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "dd"
        args    = ["if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
      }
      resources {
        memory = 32
      }
    }
  }
}
