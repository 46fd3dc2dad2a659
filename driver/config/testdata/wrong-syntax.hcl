plugin "nomad-driver-podman" {
