# What the lab adds to examples/agent, for both agents.
log_level            = "DEBUG"
disable_update_check = true

# Newer versions of Nomad ask drivers for statistics only when these are published.
telemetry {
  publish_allocation_metrics = true
}

# An emulated machine's agent may take long to come back. It is not to be taken for a
# lost node, whose tasks are replaced.
server {
  heartbeat_grace = "10m"
}

client {
  options = {
    # Clouds and Vault are looked for with retries, for seconds.
    "fingerprint.denylist" = "env_aws,env_azure,env_digitalocean,env_gce,vault"
    "driver.denylist"      = "docker,exec,java,qemu"
  }
}
