# Files of the host and of the task in a container. The test makes /srv/e2e/share for team-a and /srv/e2e/closed for root.
job "volumes" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  group "mounted" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "mounted" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sh"
        args = ["-c", <<-SH
          cat /etc/relative
          cat /mnt/local/relative
          echo written >/mnt/alloc/data/file
          cat /share/file
          echo written >/share/written || echo cannot write
          echo written >/share-ro/written || echo read-only
          grep -E '^[^ ]+ /(scratch|plain) ' /proc/mounts
          dd if=/dev/zero of=/scratch/big bs=1M count=2 || echo full
        SH
        ]
        volumes = [
          "local/relative:/etc/relative:ro",
          "local:/mnt/local",
          "../alloc:/mnt/alloc",
          "/srv/e2e/share:/share",
          "/srv/e2e/share:/share-ro:ro",
        ]
        tmpfs = ["/scratch:size=1m,mode=0750", "/plain"]
      }
      template {
        data        = "relative\n"
        destination = "local/relative"
      }
      resources {
        memory = 32
      }
    }
  }

  group "relative" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "relative" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "cat"
        args    = ["/etc/relative"]
        volumes = ["local/relative:/etc/relative:ro"]
      }
      template {
        data        = "relative\n"
        destination = "local/relative"
      }
      resources {
        memory = 32
      }
    }
  }

  # What the host user cannot read, a task of theirs cannot either.
  group "closed" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "closed" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "ls"
        args    = ["/closed"]
        volumes = ["/srv/e2e/closed/inner:/closed"]
      }
      resources {
        memory = 32
      }
    }
  }

  # A link that one task makes must not lead another out of the allocation's directory.
  group "linked" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "link" {
      driver = "podman"
      lifecycle {
        hook = "prestart"
      }
      config {
        image   = "busybox"
        command = "ln"
        args    = ["-s", "/srv/e2e/closed", "/alloc/data/link"]
      }
      resources {
        memory = 32
      }
    }

    task "linked" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "ls"
        args    = ["/closed"]
        volumes = ["../alloc/data/link:/closed"]
      }
      resources {
        memory = 32
      }
    }
  }
}
