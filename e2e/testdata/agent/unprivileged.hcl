# What the lab adds to examples/rootless-agent, beside an agent of root's.
log_level            = "DEBUG"
disable_update_check = true

ports {
  http = 4666
}

client {
  node_class = "unprivileged"
  options = {
    "fingerprint.denylist" = "env_aws,env_azure,env_digitalocean,env_gce,vault"
    "driver.denylist"      = "docker,exec,java,qemu"
  }
}

telemetry {
  publish_allocation_metrics = true
}
