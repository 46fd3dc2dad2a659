# Reports of what the tasks may do.
job "security" {
  type = "batch"

  group "security" {
    task "plain" {
      driver = "podman"
      config {
        image = "probe"
      }
      resources {
        memory = 64
      }
    }

    task "privileged" {
      driver = "podman"
      config {
        image      = "probe"
        privileged = true
      }
      resources {
        memory = 64
      }
    }

    task "added" {
      driver = "podman"
      config {
        image   = "probe"
        cap_add = ["SYS_TIME", "cap_net_admin"]
      }
      resources {
        memory = 64
      }
    }

    task "dropped" {
      driver = "podman"
      config {
        image    = "probe"
        cap_drop = ["all"]
        cap_add  = ["CHOWN"]
      }
      resources {
        memory = 64
      }
    }

    task "readonly" {
      driver = "podman"
      config {
        image           = "probe"
        readonly_rootfs = true
      }
      resources {
        memory = 64
      }
    }
  }
}
