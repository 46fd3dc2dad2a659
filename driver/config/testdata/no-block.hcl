data_dir = "/opt/nomad/data"
