# Nomad loads no plugin that its configuration does not name.
plugin "nomad-driver-podman" {
  config {
    # Tasks that name no socket run as the host user team-a, in that user's
    # own podman. It need not be running: the driver starts it when a task
    # needs it.
    socket {
      name      = "default"
      host_user = "team-a"
    }

    # Tasks with socket = "rootful" run in root's podman.
    socket {
      name        = "rootful"
      socket_path = "/run/podman/podman.sock"
    }

    # A task may name one of these host users itself (host_user = "team-b").
    rootless {
      allow_users = ["team-*"]
    }
  }
}
