# Uses its three directories, and says what it could do.
job "files" {
  type = "batch"

  group "files" {
    task "files" {
      driver = "podman"

      config {
        image   = "busybox"
        command = "sh"
        args = ["-c", <<-SH
          try() { if sh -c "$2" 2>/dev/null; then echo "$1: yes"; else echo "$1: no"; fi; }
          try 'write local' 'echo written >/local/file'
          try 'write alloc' 'echo written >/alloc/data/file'
          try 'write secrets' 'echo written >/secrets/file'
          try 'write logs' 'echo written >/alloc/logs/file'
          try 'remove logs' 'rm /alloc/logs/*'
          try 'list logs' 'ls /alloc/logs | grep -q stdout'
          echo "nosuid and nodev: $(grep -cE '^[^ ]+ /(alloc|local|secrets) [^ ]+ r[ow],nosuid,nodev' /proc/mounts)"
          echo "once: $(cat /secrets/once)"
          echo "later: $(cat /secrets/later)"
          until grep -q second /secrets/later; do usleep 100000; done
          echo "later: $(cat /secrets/later)"
          sleep 1d
        SH
        ]
      }

      template {
        data        = "root wrote this"
        destination = "secrets/once"
        perms       = "0600"
      }

      template {
        data        = "{{ with nomadVar \"nomad/jobs/files\" }}{{ .text }}{{ end }}"
        destination = "secrets/later"
        perms       = "0600"
        change_mode = "noop"
      }

      resources {
        memory = 32
      }
    }

    # Is neither root nor the owner of the file, but has root's group.
    task "group" {
      driver = "podman"
      user   = "1001:0"

      config {
        image   = "busybox"
        command = "cat"
        args    = ["/secrets/token"]
      }

      template {
        data        = "for root's group"
        destination = "secrets/token"
        perms       = "0640"
      }

      resources {
        memory = 32
      }
    }
  }
}
