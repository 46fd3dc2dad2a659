# Tasks that cannot start, each for a reason of its own.
job "badinput" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  # An unknown host user.
  group "unknown-user" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unknown-user" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "true"
        host_user = "team-unknown"
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

  # A host user that the agent does not allow.
  group "forbidden-user" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "forbidden-user" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "true"
        host_user = "daemon"
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

  # Root is not a host user.
  group "root-user" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "root-user" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "true"
        host_user = "root"
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

  # A host user without subordinate IDs, made by the test.
  group "no-subids" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "no-subids" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "true"
        host_user = "team-bare"
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

  # A socket that the agent does not have.
  group "unknown-socket" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unknown-socket" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        socket  = "nowhere"
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

  # Both ways to name an endpoint.
  group "two-endpoints" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "two-endpoints" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "true"
        socket    = "default"
        host_user = "team-b"
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

  # An image that the registry does not have.
  group "missing-image" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "missing-image" {
      driver = "podman"
      config {
        image = "docker://no-such-image:1"
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

  # No image at all.
  group "no-image" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "no-image" {
      driver = "podman"
      config {
        image = ""
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

  # What is not the name of an image.
  group "image-name" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "image-name" {
      driver = "podman"
      config {
        image = "docker://Redis:"
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

  # A transport that is not one of ours.
  group "image-transport" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "image-transport" {
      driver = "podman"
      config {
        image = "ftp://redis"
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

  # A volume with no absolute destination.
  group "malformed-volume" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "malformed-volume" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        volumes = ["local:here"]
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

  # A volume whose source is not there.
  group "missing-volume" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "missing-volume" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        volumes = ["local/nothing:/data"]
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

  # A relative volume that leads out of the allocation's directory.
  group "escaping-volume" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "escaping-volume" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        volumes = ["../../../../etc:/data"]
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

  # A tmpfs with a source.
  group "malformed-tmpfs" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "malformed-tmpfs" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        tmpfs   = ["/a:/b:/c"]
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

  # A negative number.
  group "negative-port" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "negative-port" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        port_map {
          web = -1
        }
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

  # A port label that the group does not have.
  group "unknown-port" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unknown-port" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        ports   = ["web"]
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

  # An unknown network mode.
  group "unknown-network" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unknown-network" {
      driver = "podman"
      config {
        image        = "busybox"
        command      = "true"
        network_mode = "token-ring"
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

  # What is not a duration.
  group "pull-timeout" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "pull-timeout" {
      driver = "podman"
      config {
        image              = "busybox"
        command            = "true"
        image_pull_timeout = "-5m"
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

  # A relative path.
  group "working-dir" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "working-dir" {
      driver = "podman"
      config {
        image       = "busybox"
        command     = "true"
        working_dir = "here"
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

  # Less memory and swap than memory.
  group "small-swap" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "small-swap" {
      driver = "podman"
      config {
        image       = "busybox"
        command     = "true"
        memory_swap = "16m"
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

  # An option that there is not.
  group "unknown-option" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "unknown-option" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "true"
        comand  = "true"
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

  # A list where a string belongs.
  group "wrong-type" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    ephemeral_disk {
      size = 20
    }
    task "wrong-type" {
      driver = "podman"
      config {
        image   = "busybox"
        command = ["true"]
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
