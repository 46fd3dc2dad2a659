# A task that shares the processors, and one that has one for itself.
job "cores" {
  type = "batch"

  group "shared" {
    task "shared" {
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

  group "reserved" {
    task "reserved" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        cores  = 1
        memory = 32
      }
    }
  }
}
