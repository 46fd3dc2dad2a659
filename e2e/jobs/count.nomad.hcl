# Counts, and goes on when somebody makes the file local/go.
job "count" {
  type = "batch"

  group "count" {
    restart {
      attempts = 0
      mode     = "fail"
    }

    task "count" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", <<-SH
          seq 1 20000
          until [ -e /local/go ]; do usleep 50000; done
          seq 20001 100000
          echo done >&2
          sleep 1d
        SH
        ]
      }
      resources {
        memory = 32
      }
    }
  }
}
