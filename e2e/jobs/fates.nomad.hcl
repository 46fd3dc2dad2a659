# Tasks whose containers meet with accidents.
job "fates" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "fate" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "fate" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap 'exit 9' TERM; echo ready; while :; do usleep 100000; done"]
      }
      resources {
        memory = 32
      }
    }
  }
}
