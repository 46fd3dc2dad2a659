data_dir = "/opt/nomad/data"

client {
  enabled = true
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
