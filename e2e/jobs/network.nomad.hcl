# One task for each kind of network that a rootless container can have.
job "network" {
  type = "batch"

  group "network" {
    task "default" {
      driver = "podman"
      config {
        image = "probe"
      }
      resources {
        memory = 64
      }
    }

    task "private" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "private"
      }
      resources {
        memory = 64
      }
    }

    task "bridge" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "bridge"
      }
      resources {
        memory = 64
      }
    }

    task "none" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "none"
      }
      resources {
        memory = 64
      }
    }

    task "host" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "host"
      }
      resources {
        memory = 64
      }
    }
  }

  group "user-mode" {
    task "slirp" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "slirp4netns"
      }
      resources {
        memory = 64
      }
    }

    task "slirp-options" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "slirp4netns:cidr=10.42.0.0/24,mtu=1400"
      }
      resources {
        memory = 64
      }
    }

    task "pasta" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "pasta"
      }
      resources {
        memory = 64
      }
    }

    task "pasta-options" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "pasta:--ns-ifname,tap7"
      }
      resources {
        memory = 64
      }
    }
  }

  # A namespace that Nomad makes for the whole group.
  group "shared" {
    network {
      mode = "bridge"
      dns {
        servers  = ["10.9.8.7"]
        searches = ["e2e.test"]
        options  = ["ndots:3"]
      }
    }

    task "shared" {
      driver = "podman"
      config {
        image        = "probe"
        network_mode = "host"
      }
      resources {
        memory = 64
      }
    }
  }
}
