# A task that runs on the agent without root only: its first process has a subordinate UID of the agent's user.
job "unprivileged" {
  type = "batch"

  group "signals" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "signals" {
      driver = "podman"
      user   = "app"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap 'echo got SIGUSR1' USR1; echo ready; while :; do usleep 100000; done"]
      }
      resources {
        memory = 32
      }
    }
  }
}
