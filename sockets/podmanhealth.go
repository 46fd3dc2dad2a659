package sockets

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"nomad-driver-podman/finding"
)

// findPodman asks the podman that listens about itself.
func (e *Endpoint) findPodman(ctx context.Context) []finding.Finding {
	patient := *e.client
	patient.timeout = activationTimeout // podman makes the storage of a new user with the first request
	info, err := patient.Info(ctx)
	if err != nil {
		api := e.unusable("api", err)
		api.Seen = finding.Printable(api.Seen)
		api.Remedy.Advice = "see what podman says: journalctl --unit=podman.service"
		if e.Rootless() {
			api.Remedy.Advice = fmt.Sprintf("see what podman says: journalctl _UID=%d --user-unit=podman.service", e.User().UID)
		}
		return append([]finding.Finding{api}, e.skipPodman("podman does not answer")[1:]...)
	}
	api := finding.Good("api", e.subject(), "podman %s answers; it has the OCI runtime %s, the cgroup manager %s and networks of %s",
		finding.Printable(info.Version), finding.Printable(info.OCIRuntime), finding.Printable(info.CgroupManager), finding.Printable(info.NetworkBackend))
	return []finding.Finding{api, e.findStorage(ctx, info), e.findDatabase(info)}
}

// skipPodman are the findings of a podman that cannot be asked.
func (e *Endpoint) skipPodman(why string) []finding.Finding {
	var found []finding.Finding
	for _, id := range []string{"api", "storage", "database"} {
		found = append(found, finding.Skip(id, e.subject(), "%s", why))
	}
	return found
}

func (e *Endpoint) findStorage(ctx context.Context, info Info) finding.Finding {
	f := finding.Good("storage", e.subject(), "storage driver %s", finding.Printable(info.StorageDriver))
	if info.StorageDriver == "vfs" {
		f.Status = finding.Warn
		f.Why = "it copies the whole image for each container: starts are slow and fill the disk"
		f.Remedy = e.toOverlay(ctx, info)
	}
	return f
}

// toOverlay has a host user's podman use overlay(5) from now on. podman keeps to the driver that its storage has, so it
// gets a new storage, which is done only where the old one is empty and where podman has it by default: another place may
// hold more than podman's. The old one is put aside, not removed.
func (e *Endpoint) toOverlay(ctx context.Context, info Info) finding.Remedy {
	user := e.User()
	storage := filepath.Join(user.Home, ".local/share/containers/storage")
	advice := finding.Remedy{Advice: `when nothing of it is needed any more, remove the storage as its user (podman system reset, which deletes all containers, images and volumes), and set driver = "overlay" in storage.conf`}
	if !e.managed || user.IsRoot() || e.registry.agent != 0 || info.GraphRoot != storage || info.RunRoot != user.RuntimeDir()+"/containers" {
		return advice
	}
	if user.OwnStorageDriver() != info.StorageDriver {
		return advice // it is not the user who has chosen it
	}
	empty, err := e.client.isEmpty(ctx)
	if err != nil || !empty {
		return advice
	}
	return finding.Remedy{
		Commands: []string{finding.Command("systemd-run", "--user", "--machine="+user.String()+"@", "--wait", "--collect",
			"sh", "-c", overlayScript(storage, filepath.Join(user.Home, ".config/containers/storage.conf")))},
		Advice: "the old storage stays as " + finding.Printable(storage) + ".vfs; where podman cannot use overlay everything is put back",
		Safe:   true,
	}
}

// overlayScript is what the user's shell has to do. It looks again whether the storage is empty, when nothing of podman's
// listens any more: else, or when podman cannot tell, it moves nothing. It puts everything back when podman does not use
// overlay then. In the end podman.socket listens as before.
func overlayScript(storage, conf string) string {
	move := func(from, to string) string { return finding.Command("mv", "-T", from, to) }
	return strings.Join([]string{
		"systemctl --user stop " + socketUnit + " podman.service",
		`trap "systemctl --user start ` + socketUnit + `" EXIT`,
		// The last list is that of the networks, with podman's own.
		`test "$(podman ps --all --external --quiet && podman images --all --quiet && podman volume ls --quiet && podman pod ps --quiet` +
			` && podman secret ls --noheading --format "{{.ID}}" && podman network ls --format "{{.Name}}")" = podman || exit 1`,
		finding.Command("cp", "-p", conf, conf+".vfs") + " && " + move(storage, storage+".vfs") + " || exit 1",
		`sed -i "s/^\([[:space:]]*driver[[:space:]]*=\).*/\1 \"overlay\"/" ` + finding.Command(conf),
		`test "$(podman info --format "{{.Store.GraphDriverName}}")" = overlay && exit 0`,
		move(conf+".vfs", conf),
		"test ! -e " + finding.Command(storage) + " || " + move(storage, storage+".new"),
		move(storage+".vfs", storage),
		"exit 1",
	}, "; ")
}

// isEmpty tells whether podman's storage has nothing that anybody has put there.
func (c *Client) isEmpty(ctx context.Context) (bool, error) {
	for kind, own := range map[string]int{
		"containers": 0, "images": 0, "volumes": 0, "pods": 0, "secrets": 0,
		"networks": 1, // the default one, which podman makes itself
	} {
		var found list[struct{}]
		r := request{what: "listing " + kind, method: http.MethodGet, path: []string{kind, "json"}}
		switch kind {
		case "containers":
			r.query = url.Values{"all": {"true"}, "external": {"true"}}
		case "images":
			r.query = url.Values{"all": {"true"}}
		}
		if err := c.quick(ctx, r, &found); err != nil || len(found) > own {
			return false, err
		}
	}
	return true, nil
}

func (e *Endpoint) findDatabase(info Info) finding.Finding {
	const id = "database"
	switch backend := info.DatabaseBackend; {
	case backend == "":
		return finding.Skip(id, e.subject(), "podman before version 4.6 has BoltDB and does not tell")
	case !strings.EqualFold(backend, "boltdb"):
		return finding.Good(id, e.subject(), "%s", finding.Printable(backend))
	}
	f := finding.Finding{
		ID: id, Subject: e.subject(), Status: finding.Warn, Seen: "BoltDB",
		Why: "podman 6 has no BoltDB any more, and 5.8.0 can lose containers when it leaves it",
		// podman 5.8 release notes, https://github.com/containers/podman/issues/28216.
		Remedy: finding.Remedy{Advice: "upgrade podman to 5.8.1 or newer before version 6; it moves to SQLite when the host is booted"},
	}
	if v := parseVersion(info.Version); !v.before(5, 8, 1) {
		f.Remedy.Advice = "reboot the host, or while no container of this podman runs, run as its user: podman system migrate --migrate-db"
	}
	return f
}
