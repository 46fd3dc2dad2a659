# The ways to name an image, and what can go wrong on the way.
job "image" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  # Prints its version and ends.
  group "reference" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "reference" {
      driver = "podman"
      config {
        image = "docker.io/library/nats:latest"
        args  = ["--version"]
      }
      resources {
        memory = 64
      }
    }
  }

  group "docker" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "docker" {
      driver = "podman"
      config {
        image   = "docker://busybox"
        command = "echo"
        args    = ["docker"]
      }
      resources {
        memory = 32
      }
    }
  }

  group "short" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "short" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "echo"
        args    = ["short"]
      }
      resources {
        memory = 32
      }
    }
  }

  group "force-pull" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "force-pull" {
      driver = "podman"
      config {
        image      = "busybox"
        command    = "echo"
        args       = ["forced"]
        force_pull = true
      }
      resources {
        memory = 32
      }
    }
  }

  # From the registry that the test starts.
  group "auth" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "auth" {
      driver = "podman"
      config {
        image   = "127.0.0.1:5443/library/busybox"
        command = "echo"
        args    = ["authenticated"]
        auth {
          username   = "alibaba"
          password   = "opensesame"
          tls_verify = false
        }
      }
      resources {
        memory = 32
      }
    }
  }

  group "wrong-password" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "wrong-password" {
      driver = "podman"
      config {
        image = "127.0.0.1:5443/library/redis"
        auth {
          username   = "alibaba"
          password   = "openbarley"
          tls_verify = false
        }
      }
      resources {
        memory = 32
      }
    }
  }

  # What the registry does not speak, and must by registries.conf.
  group "verified" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "verified" {
      driver = "podman"
      config {
        image = "127.0.0.1:5443/library/redis:7"
        auth {
          username = "alibaba"
          password = "opensesame"
        }
      }
      resources {
        memory = 32
      }
    }
  }

  # From a registry that never answers.
  group "slow" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "slow" {
      driver = "podman"
      config {
        image              = "127.0.0.1:5444/library/redis"
        image_pull_timeout = "3s"
      }
      resources {
        memory = 32
      }
    }
  }
}
