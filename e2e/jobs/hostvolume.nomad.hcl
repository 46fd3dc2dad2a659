# A host volume of the node. The agent's configuration is testdata/agent/no-volumes.hcl.
job "hostvolume" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "shared" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    volume "shared" {
      type   = "host"
      source = "shared"
    }
    task "reader" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "cat"
        args    = ["/data/file"]
      }
      volume_mount {
        volume      = "shared"
        destination = "/data"
      }
      resources {
        memory = 32
      }
    }
  }
}
