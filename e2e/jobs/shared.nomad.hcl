# Tasks of two host users in one group, the second after the first. What it manages to do the second one prints.
job "shared" {
  type = "batch"

  group "shared" {
    restart {
      attempts = 0
      mode     = "fail"
    }

    task "first" {
      driver = "podman"
      lifecycle {
        hook = "prestart"
      }
      config {
        image   = "busybox"
        command = "sh"
        args = ["-c", <<-SH
          umask 0
          cd /alloc && echo first >file && echo first >other && mkdir dir && echo first >dir/file && echo first >data/file
        SH
        ]
      }
      resources {
        memory = 32
      }
    }

    task "second" {
      driver = "podman"
      config {
        image     = "busybox"
        command   = "sh"
        host_user = "team-b"
        args = ["-c", <<-SH
          try() { if sh -c "$2" 2>/dev/null; then echo "$1: yes"; else echo "$1: no"; fi; }
          cd /alloc
          try 'read' 'cat file >/dev/null'
          try 'make' 'echo second >new && rm new'
          try 'append' 'dd if=/etc/hostname of=file oflag=append conv=notrunc'
          try 'remove' 'rm -f file'
          try 'rename' 'mv other renamed'
          try 'rename a directory' 'mv dir renamed'
          try 'write in a directory' 'echo second >dir/file'
          try 'remove in a directory' 'rm dir/file'
          try 'remove in data' 'rm -f data/file'
        SH
        ]
      }
      resources {
        memory = 32
      }
    }
  }
}
