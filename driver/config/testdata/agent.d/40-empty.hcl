plugin "nomad-driver-podman" {}
