# Tasks with the options that are limits.
job "limitoptions" {
  type = "batch"

  group "limits" {
    task "all" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]

        cpu_hard_limit     = true
        cpu_cfs_period     = 50000
        memory_reservation = "16M"
        memory_swap        = "48m"
        memory_swappiness  = 10
        pids_limit         = 50
      }
      resources {
        cpu    = 100
        memory = 32
      }
    }

    task "hard" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]

        memory_hard_limit = 48
        memory_swap       = -1
        pids_limit        = -1
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }

  group "cores" {
    task "cores" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]

        cpu_hard_limit = true
      }
      resources {
        cores  = 1
        memory = 32
      }
    }
  }
}
