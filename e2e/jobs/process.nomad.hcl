# What runs in a container, as whom and where. The probe image has the entrypoint ["probe"].
job "process" {
  type = "batch"

  group "process" {
    task "command" {
      driver = "podman"
      user   = "app"
      config {
        image       = "busybox"
        command     = "sh"
        args        = ["-c", "echo \"$1|$2|$(id -un)|$(pwd)|$(hostname)|$GREETING|$NOMAD_TASK_NAME|$NOMAD_META_team\"", "sh", "a b", "$c"]
        working_dir = "/usr/bin"
        hostname    = "jupiter"
      }
      env {
        GREETING = "hello, world"
      }
      meta {
        team = "blue"
      }
      resources {
        memory = 32
      }
    }

    task "image-command" {
      driver = "podman"
      config {
        image = "redis"
        args  = ["redis-server", "--version"]
      }
      resources {
        memory = 32
      }
    }

    task "entrypoint" {
      driver = "podman"
      config {
        image      = "redis"
        entrypoint = ["echo", "entrypoint"]
        command    = "command"
        args       = ["argument"]
      }
      resources {
        memory = 32
      }
    }

    task "entrypoint-text" {
      driver = "podman"
      config {
        image      = "redis"
        entrypoint = "echo"
        args       = ["argument"]
      }
      resources {
        memory = 32
      }
    }
  }
}
