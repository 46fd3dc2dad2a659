# Tasks that wait for commands to be run in their containers.
job "exec" {
  group "exec" {
    task "rootless" {
      driver = "podman"
      user   = "app"
      config {
        image       = "busybox"
        command     = "sleep"
        args        = ["100000"]
        working_dir = "/usr/bin"
      }
      env {
        GREETING = "hello, world"
      }
      resources {
        memory = 64
      }
    }

    task "rootful" {
      driver = "podman"
      user   = "app"
      config {
        image       = "busybox"
        command     = "sleep"
        args        = ["100000"]
        working_dir = "/usr/bin"
        socket      = "rootful"
      }
      env {
        GREETING = "hello, world"
      }
      resources {
        memory = 64
      }
    }
  }

  # Nomad runs a script in the container whenever the variable nomad/jobs/exec changes.
  group "template" {
    task "template" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["100000"]
      }
      template {
        data        = "{{ with nomadVar \"nomad/jobs/exec\" }}{{ .script }}{{ end }}"
        destination = "local/script"
        change_mode = "script"
        splay       = "0s"
        change_script {
          command = "/bin/sh"
          args    = ["/local/script"]
          timeout = "30s"
        }
      }
      resources {
        memory = 64
      }
    }
  }

  # A check of Consul's that Nomad runs in the container.
  group "check" {
    service {
      name = "checked"
      task = "check"
      check {
        name     = "script"
        type     = "script"
        command  = "/bin/sh"
        args     = ["-c", "cat /tmp/ready 2>&1 || exit 2"]
        interval = "2s"
        timeout  = "1m"
      }
    }

    task "check" {
      driver = "podman"
      config {
        image   = "busybox"
        command = "sleep"
        args    = ["100000"]
      }
      resources {
        memory = 64
      }
    }
  }
}
