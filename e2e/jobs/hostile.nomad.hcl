# Tasks that want Nomad's log collector, which is root, to write where their links lead: after 1 MiB of output it opens the
# next file by its path in alloc/logs. What they manage to do they say on stderr.
job "hostile" {
  type = "batch"

  reschedule {
    attempts  = 0
    unlimited = false
  }

  dynamic "group" {
    for_each = {
      plain      = { volumes = [], privileged = false, cap_add = [] }
      logs       = { volumes = ["../alloc/logs:/mnt/logs", "../alloc/logs:/mnt/rw/logs:rw"], privileged = false, cap_add = [] }
      shared     = { volumes = ["../alloc:/mnt"], privileged = false, cap_add = [] }
      capable    = { volumes = ["../alloc:/mnt"], privileged = false, cap_add = ["SYS_ADMIN"] }
      privileged = { volumes = ["../alloc:/mnt"], privileged = true, cap_add = [] }
      taskdir    = { volumes = [".:/mnt"], privileged = false, cap_add = [] }
      allocdir   = { volumes = ["local/..:/mnt/1", "..:/mnt/2"], privileged = false, cap_add = [] }
      private    = { volumes = ["private:/mnt"], privileged = false, cap_add = [] }
    }
    labels = [group.key]
    content {
      restart {
        attempts = 0
        mode     = "fail"
      }
      dynamic "task" {
        for_each = [group.key]
        labels   = [task.value]
        content {
          driver = "podman"
          config {
            image      = "busybox"
            command    = "sh"
            volumes    = group.value.volumes
            privileged = group.value.privileged
            cap_add    = group.value.cap_add
            args = ["-c", <<-SH
              did() { name=$1; shift; "$@" 2>/dev/null && echo "$name" >&2; }
              mkdir -p /elsewhere
              for logs in /alloc/logs /mnt/logs /mnt/rw/logs; do
                [ -d $logs ] || continue
                did "renamed $logs" mv $logs $logs.was
                did "unmounted $logs" umount $logs
                did "detached $logs" umount -l $logs
                did "made $logs writable" mount -o remount,bind,rw $logs
                did "went around $logs" mount --bind $(dirname $logs) /elsewhere
                for dir in $logs /elsewhere/logs; do
                  did "removed from $dir" rm $dir/$NOMAD_TASK_NAME.stdout.0
                  did "linked in $dir" ln -s /etc/e2e-hostile-$NOMAD_TASK_NAME $dir/$NOMAD_TASK_NAME.stdout.1
                done
              done
              yes "what root must not write elsewhere" | head -c 1500000
            SH
            ]
          }
          logs {
            max_files     = 3
            max_file_size = 1
          }
          resources {
            memory = 32
          }
        }
      }
    }
  }
}
