# Each task answers HTTP requests with the name of its file.
job "ports" {
  type = "batch"

  group "ports" {
    network {
      port "to" {
        to = 8080
      }
      port "same" {}
      port "bridged" {
        to = 8080
      }
      port "slirp" {
        to = 8080
      }
      port "host" {}
      port "unused" {}
    }

    task "to" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo to >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        ports   = ["to"]
      }
      service {
        name     = "to"
        port     = "to"
        provider = "nomad"
      }
      resources {
        memory = 32
      }
    }

    task "same" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo same >/tmp/index.html; exec httpd -f -p $NOMAD_PORT_same -h /tmp"]
        ports   = ["same"]
      }
      resources {
        memory = 32
      }
    }

    task "bridged" {
      driver = "podman"
      config {
        image        = "busybox"
        command      = "sh"
        args         = ["-c", "echo bridged >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        ports        = ["bridged"]
        network_mode = "bridge"
      }
      resources {
        memory = 32
      }
    }

    task "slirp" {
      driver = "podman"
      config {
        image        = "busybox"
        command      = "sh"
        args         = ["-c", "echo slirp >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        ports        = ["slirp"]
        network_mode = "slirp4netns"
      }
      resources {
        memory = 32
      }
    }

    task "host" {
      driver = "podman"
      config {
        image        = "busybox"
        command      = "sh"
        args         = ["-c", "echo host >/tmp/index.html; exec httpd -f -p $NOMAD_HOST_PORT_host -h /tmp"]
        ports        = ["host"]
        network_mode = "host"
      }
      resources {
        memory = 32
      }
    }
  }

  # The deprecated form: the network block is the task's.
  group "mapped" {
    task "mapped" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo mapped >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        port_map {
          mapped = 8080
        }
      }
      resources {
        memory = 32
        network {
          port "mapped" {}
        }
      }
    }
  }
}
