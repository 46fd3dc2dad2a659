# Three tasks that just run. The busy one keeps a core and a buffer of 32 MiB in use.
job "stats" {
  type = "batch"

  group "stats" {
    task "busy" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "dd"
        args    = ["if=/dev/zero", "of=/dev/null", "bs=32M"]
      }
      resources {
        memory = 64
      }
    }

    task "idle" {
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

    task "rootful" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["1d"]
        socket  = "rootful"
      }
      resources {
        memory = 32
      }
    }
  }
}
