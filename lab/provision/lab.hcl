# What the lab adds to examples/agent, for both agents.
log_level            = "DEBUG"
disable_update_check = true

# Newer versions of Nomad ask drivers for statistics only when these are published.
telemetry {
  publish_allocation_metrics = true
}

client {
  options = {
    # Clouds and Vault are looked for with retries, for seconds.
    "fingerprint.denylist" = "env_aws,env_azure,env_digitalocean,env_gce,vault"
    "driver.denylist"      = "docker,exec,java,qemu"
  }
}
