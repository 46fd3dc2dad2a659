package spec

// process is what runs, as whom and where.
func process(spec *Spec, in Input) {
	cfg := in.Config
	spec.Entrypoint = cfg.Entrypoint
	if cfg.Command != "" {
		spec.Command = append(spec.Command, cfg.Command)
	}
	spec.Command = append(spec.Command, cfg.Args...)
	spec.Env = in.Task.Env
	spec.User = in.Task.User
	spec.WorkDir = cfg.WorkingDir
	spec.Hostname = cfg.Hostname
	spec.Init = cfg.Init
	spec.InitPath = cfg.InitPath
	// Nomad restarts tasks; podman must not do it behind Nomad's back.
	spec.RestartPolicy = "no"
	// Containers that run systemd get mounts and a stop signal of their own from podman, when it guesses so by the
	// command's name. A task says what it wants by its options instead.
	spec.Systemd = "false"
	spec.SdNotifyMode = "ignore"
}
