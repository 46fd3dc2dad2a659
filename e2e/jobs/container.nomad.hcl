# Tasks that stay, to be looked at.
job "container" {
  type = "batch"

  group "container" {
    task "labels-block" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        labels {
          colour = "red"
        }
      }
      resources {
        memory = 32
      }
    }

    task "labels-list" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        labels  = [{ colour = "green", number = 7, "com.hashicorp.nomad.alloc_id" = "forged" }]
      }
      resources {
        memory = 32
      }
    }

    task "no-init" {
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

    task "init" {
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

    task "init-path" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sleep"
        args      = ["1d"]
        init      = true
        init_path = "/usr/local/bin/own-init"
      }
      resources {
        memory = 32
      }
    }
  }
}
