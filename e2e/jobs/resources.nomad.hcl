# Tasks with different shares of the machine.
job "resources" {
  type = "batch"

  group "resources" {
    task "small" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }

    task "large" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
      }
      resources {
        cpu        = 500
        memory     = 64
        memory_max = 128
      }
    }
  }
}
