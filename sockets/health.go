package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// Find looks at the endpoint: its user's manager, podman.socket, and podman behind it. It starts nothing, except that
// systemd starts podman for a socket that listens. podman may take as long as ctx lasts, for which the first answer of a
// new user's is a reason; systemd may not.
func (e *Endpoint) Find(ctx context.Context) []finding.Finding {
	if !e.managed {
		return e.findConfigured(ctx)
	}
	if err := e.registry.permit(e.User()); err != nil {
		return []finding.Finding{e.unusable("podman-socket", err)}
	}
	found, silent := e.findUnits(ctx)
	if silent != "" {
		return append(found, e.skipPodman(silent)...)
	}
	return append(found, e.findPodman(ctx)...)
}

// findConfigured looks at an endpoint that is not systemd's.
func (e *Endpoint) findConfigured(ctx context.Context) []finding.Finding {
	owner, err := ownerOf(e.path)
	if err == nil {
		err = e.registry.permit(owner)
	}
	if err != nil {
		f := e.unusable("socket", err)
		if errors.Is(err, fs.ErrNotExist) {
			f.Remedy.Advice = "start the service that listens there, or name the host user (host_user) instead of the path"
		}
		return []finding.Finding{f}
	}
	found := []finding.Finding{finding.Good("socket", e.name, "%s belongs to %s", e.path, owner)}
	switch {
	case owner.IsRoot():
		found = append(found, e.findAccess())
	case e.registry.checkHost() != nil:
		return append(found, e.skipPodman("see cgroup-mode")...)
	}
	return append(found, e.findPodman(ctx)...)
}

// findUnits looks at the user's manager and at podman.socket, and tells why podman is not asked. silent is empty when it is.
func (e *Endpoint) findUnits(ctx context.Context) (found []finding.Finding, silent string) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("systemd did not answer within %s: %w", lookTimeout, context.DeadlineExceeded))
	defer cancel()
	runs := true
	if e.Rootless() {
		found, runs = e.findManager(ctx)
		if other := e.refused(); other != "" {
			silent = "see " + other
			return append(found, finding.Skip("podman-socket", e.subject(), "%s", silent)), silent
		}
	}
	unit, listens := e.findSocketUnit(ctx, runs)
	if found = append(found, unit); !e.Rootless() {
		found = append(found, e.findAccess())
	}
	if !listens {
		silent = socketUnit + " is not active: podman is asked when it is"
	}
	return found, silent
}

// refused is the ID of the finding that says why the driver starts no podman of a host user, and what to do; empty when
// it does.
func (e *Endpoint) refused() string {
	switch {
	case e.registry.checkHost() != nil:
		return "cgroup-mode"
	case e.registry.checkIDs(e.User()) != nil:
		return "subordinate-ids"
	}
	return ""
}

// subject is of whom findings about the endpoint are: of the host user whose podman.socket it is, else of the configured
// name.
func (e *Endpoint) subject() string {
	if e.managed {
		return e.User().String()
	}
	return e.name
}

// unusable is the finding about an error that says itself what to do. What does not answer in time may still be usable.
func (e *Endpoint) unusable(id string, err error) finding.Finding {
	if errors.Is(err, context.DeadlineExceeded) {
		return finding.Unknown(id, e.subject(), err)
	}
	return finding.Finding{ID: id, Subject: e.subject(), Status: finding.Fail, Seen: err.Error(), Why: "no task can use this podman", Cause: err}
}

// findManager looks at the host user's manager and its lingering, and tells whether it runs.
func (e *Endpoint) findManager(ctx context.Context) (found []finding.Finding, runs bool) {
	system, err := e.registry.connect(ctx, nil)
	if err != nil {
		return []finding.Finding{
			finding.Skip("manager", e.subject(), "systemd cannot be asked"),
			finding.Skip("lingering", e.subject(), "systemd cannot be asked"),
		}, false
	}
	defer system.Close()
	unit := userManagerUnit(e.User())
	load, active, _, err := system.UnitState(ctx, unit)
	if err != nil {
		found = []finding.Finding{finding.Unknown("manager", e.subject(), err)}
	} else {
		found = []finding.Finding{e.managerState(ctx, system, load, active)}
	}
	return append(found, e.findLingering(ctx, system)), active == "active"
}

func (e *Endpoint) managerState(ctx context.Context, system manager, load, active string) finding.Finding {
	user := e.User()
	unit := userManagerUnit(user)
	f := finding.Good("manager", e.subject(), "%s is %s", unit, active)
	switch {
	case load == "masked":
		f.Status, f.Seen, f.Why, f.Cause = finding.Fail, unit+" is masked", "the user's podman needs the user's manager", ErrUnitMasked
		f.Remedy.Commands = []string{finding.Command("systemctl", "unmask", unit)}
	case active == "failed":
		f.Status, f.Why = finding.Warn, "the tasks of the host user have ended with it"
		// The runtime directory as in freshRuntimeDir, unless somebody has started the manager since: it would end with it.
		if !system.LoggedIn(ctx, user.UID) {
			f.Remedy.Commands = []string{"if systemctl is-failed --quiet " + unit +
				" && sessions=$(loginctl show-user --property=Sessions --value " + finding.Command(user.String()) + `) && test -z "$sessions"` +
				"; then systemctl stop " + runtimeDirUnit(user) + "; fi"}
		}
		f.Remedy.Commands = append(f.Remedy.Commands, finding.Command("systemctl", "start", unit))
		f.Remedy.Safe = true
	case active != "active" && e.registry.agent != 0:
		f.Status, f.Why = finding.Fail, "an agent that is not root cannot start it"
		f.Remedy = e.linger()
	case active != "active":
		f.Seen += "; it is started when a task needs it"
	}
	return f
}

// linger is the remedy for a manager that does not run, or does not last.
func (e *Endpoint) linger() finding.Remedy {
	return finding.Remedy{Safe: true, Commands: []string{
		finding.Command("loginctl", "enable-linger", e.User().String()),
		finding.Command("systemctl", "start", userManagerUnit(e.User())), // which lingering alone does not wait for
	}}
}

func (e *Endpoint) findLingering(ctx context.Context, system manager) finding.Finding {
	const id = "lingering"
	// Without it the question would have the bus start it.
	if _, active, _, err := system.UnitState(ctx, logindUnit); err != nil || active != "active" {
		return finding.Skip(id, e.subject(), logindUnit+" is not there to tell")
	}
	options := &e.registry.options
	switch {
	case system.Lingers(ctx, e.User().UID):
		return finding.Good(id, e.subject(), "the user's manager runs from boot on, without a session")
	case !options.Linger:
		return finding.Good(id, e.subject(), "off, as the driver's configuration has it")
	case options.ReleaseAfter > 0:
		return finding.Good(id, e.subject(), "off; the driver enables it as long as the user has tasks")
	}
	return finding.Finding{
		ID: id, Subject: e.subject(), Status: finding.Warn, Seen: "off",
		Why:    "until the driver has enabled it, what runs as the user ends with the user's last session, and nothing of the user's is started at boot",
		Remedy: e.linger(),
	}
}

// findSocketUnit looks at podman.socket, and tells whether it listens. runs says whether its manager does.
func (e *Endpoint) findSocketUnit(ctx context.Context, runs bool) (f finding.Finding, listens bool) {
	const id = "podman-socket"
	file, err := e.findOwnUnitFile()
	switch {
	case err != nil:
		return finding.Unknown(id, e.subject(), err), false
	case !runs:
		return waits(file), false
	}
	var as *rootless.User
	if user := e.User(); !user.IsRoot() {
		as = &user
	}
	systemd, err := e.registry.connect(ctx, as)
	if err != nil {
		return e.findNoBus(file, err), false
	}
	defer systemd.Close()
	load, active, _, err := systemd.UnitState(ctx, socketUnit)
	switch listens = active == "active"; {
	case err != nil:
		return finding.Unknown(id, e.subject(), err), false
	case errors.Is(file.Cause, ErrUnitMasked):
		if as != nil { // the manager does not notice that a mask for all users is gone
			file.Remedy.Commands = append(file.Remedy.Commands, finding.Command("systemctl", "--user", "--machine="+as.String()+"@", "daemon-reload"))
		}
		return file, listens
	case load == "masked":
		return e.findMask(""), listens
	case load == "not-found":
		return file, false
	}
	f = finding.Good(id, e.subject(), "%s is %s", socketUnit, active)
	if !listens {
		return waits(f), false
	}
	return f, true
}

// waits says what a podman.socket waits for that is as it should be and does not listen.
func waits(unit finding.Finding) finding.Finding {
	if unit.Status == finding.OK {
		unit.Seen += "; it is started when a task needs it"
	}
	return unit
}

// findOwnUnitFile looks for the unit file where the endpoint's manager does.
func (e *Endpoint) findOwnUnitFile() (f finding.Finding, err error) {
	user := e.User()
	if user.IsRoot() {
		return e.findUnitFile(systemUnits), nil
	}
	err = user.Do(func() error {
		f = e.findUnitFile(append(ownUnits(user), userUnits...))
		return nil
	})
	return f, err
}

// findNoBus is the finding about a manager that runs and cannot be reached.
func (e *Endpoint) findNoBus(file finding.Finding, err error) finding.Finding {
	if !e.Rootless() {
		return file // the finding about the system's bus says it
	}
	f := e.unusable("podman-socket", err)
	if errors.Is(err, fs.ErrNotExist) {
		f.Remedy = finding.Install("dbus-user-session", "dbus-broker")
		f.Remedy.Advice = fmt.Sprintf("then start the user's manager again, which ends what runs in it: systemctl restart %s", userManagerUnit(e.User()))
	}
	return f
}
