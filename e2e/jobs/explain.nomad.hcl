# Tasks that end badly, each in its own way.
job "explain" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  # When the test makes the file local/go, the memory is filled with a file's pages, which the kernel can take back, so that
  # the driver sees the limit reached; some time later dd fills its buffer of 64 MiB, and the cgroup is gone at once.
  group "oom" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "oom" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo allocating >&2; until [ -e /local/go ]; do usleep 50000; done; truncate -s 64M /local/hole; cat /local/hole >/dev/null; sleep 2; exec dd if=/dev/zero of=/dev/null bs=64M count=1"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  group "exit" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "exit" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "printf 'one\\n\\033[31mtwo\\033[0m\\nthree\\nfour\\n' >&2; exit 3"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # Killed by the test.
  group "killed" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "killed" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo ready; echo waiting >&2; while :; do usleep 100000; done"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # The test takes its processes away. One stays for some time after that, in which the driver can see it.
  group "forks" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "forks" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "mkfifo /local/wait; sh -c 'echo ready; echo waiting >&2; while :; do usleep 100000; done'; code=$?; read -t 2 _ <>/local/wait; exit $code"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # Killed by the test, when another driver has taken it up.
  group "recovered" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "recovered" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "echo ready; echo waiting >&2; while :; do usleep 100000; done"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # Ended by the test, when no driver looks.
  group "unseen" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unseen" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap 'exit 9' TERM; echo ready; echo waiting >&2; while :; do usleep 100000; done"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # Stopped by the test, through Nomad.
  group "stopped" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "stopped" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "trap 'exit 143' TERM; echo ready; while :; do usleep 100000; done"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  # Only a child is killed.
  group "child" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "child" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args    = ["-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; echo ready; while :; do usleep 100000; done"]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  group "image" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "image" {
      driver = "podman"
      config {
        image   = "docker://no-such-image:1"
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }

  group "command" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "command" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "/no/such/program"
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
