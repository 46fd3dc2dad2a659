# Tasks that print what is hard to pass on.
job "logs" {
  type = "batch"

  group "logs" {
    task "streams" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done"]
      }
      resources {
        memory = 32
      }
    }

    # Every byte there is, and no newline at the end.
    task "binary" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i + 1)); done"]
      }
      resources {
        memory = 32
      }
    }

    # One line of more than 1 MiB, then a short one.
    task "long" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "seq -s , 1 166000; echo after"]
      }
      resources {
        memory = 32
      }
    }
  }
}
