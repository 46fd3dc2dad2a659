package driver

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/structs"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// fingerprintInterval is how often it is looked whether endpoints that nobody uses could be used. That reads a few
// files and asks systemd; podman is left alone.
const fingerprintInterval = 30 * time.Second

// wakeFingerprint has the fingerprint renewed now.
func (d *Driver) wakeFingerprint() {
	select {
	case d.changed <- struct{}{}:
	default: // it is about to be renewed anyway
	}
}

// Fingerprint streams what the node can offer, whenever that changes.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan *drivers.Fingerprint, error) {
	// An agent that finds this plugin running asks for this first.
	if node := d.current(); node != nil {
		d.expectBuild(node)
	}
	fingerprints := make(chan *drivers.Fingerprint)
	go func() {
		defer close(fingerprints)
		ticker := time.NewTicker(fingerprintInterval)
		defer ticker.Stop()
		var last *drivers.Fingerprint
		for {
			if next, unusable := d.fingerprint(ctx); last == nil || !equal(last, next) {
				for socket, err := range unusable {
					d.logger.Warn("a podman socket cannot be used", "socket", socket, "error", err)
				}
				select {
				case fingerprints <- next:
					last = next
				case <-ctx.Done():
					return
				case <-d.ctx.Done():
					return
				}
			}
			select {
			case <-ticker.C:
			case <-d.changed:
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}()
	return fingerprints, nil
}

func equal(a, b *drivers.Fingerprint) bool {
	return a.Health == b.Health && a.HealthDescription == b.HealthDescription &&
		maps.EqualFunc(a.Attributes, b.Attributes, func(a, b *structs.Attribute) bool { return a.GoString() == b.GoString() })
}

// fingerprint is the node as it is now: healthy while any endpoint is up or can be activated, so that one host user's
// trouble does not take the node from the others. What cannot be used comes with the reason.
func (d *Driver) fingerprint(ctx context.Context) (_ *drivers.Fingerprint, unusable map[string]error) {
	print := &drivers.Fingerprint{Attributes: map[string]*structs.Attribute{}}
	node := d.current()
	if node == nil {
		print.Health = drivers.HealthStateUndetected
		print.HealthDescription = errNotConfigured.Error()
		return print, nil
	}
	unusable = maps.Clone(node.broken)
	usable := 0
	for _, endpoint := range node.registry.Endpoints() {
		ctx, cancel := context.WithTimeout(ctx, fingerprintInterval)
		err := endpoint.CheckActivatable(ctx)
		cancel()
		if err == nil {
			usable++
		} else {
			unusable[endpoint.Name()] = err
		}
		isDefault := endpoint.Name() == node.config.DefaultName()
		attributes := endpointAttributes(endpoint, isDefault, err == nil)
		for attribute, value := range attributes {
			print.Attributes["driver.podman."+attributeName(endpoint.Name())+"."+attribute] = value
			if isDefault {
				print.Attributes["driver.podman."+attribute] = value
			}
		}
	}
	switch {
	case usable == 0:
		print.Health = drivers.HealthStateUndetected
		print.HealthDescription = "Cannot connect to any Podman socket."
		return print, unusable
	case len(unusable) > 0:
		print.HealthDescription = "Cannot fingerprint certain podman sockets: " + strings.Join(slices.Sorted(maps.Keys(unusable)), ", ")
	default:
		print.HealthDescription = "All Podman sockets are responding."
	}
	print.Health = drivers.HealthStateHealthy
	print.Attributes["driver.podman"] = structs.NewBoolAttribute(true)
	return print, unusable
}

// endpointAttributes are upstream's attributes, and the host user. What only podman itself can tell is there once the
// endpoint has been activated.
func endpointAttributes(endpoint *sockets.Endpoint, isDefault, usable bool) map[string]*structs.Attribute {
	state := endpoint.State()
	health := "unhealthy"
	if usable {
		health = "healthy"
	}
	attributes := map[string]*structs.Attribute{
		"health":        structs.NewStringAttribute(health),
		"defaultPodman": structs.NewBoolAttribute(isDefault),
		"socketName":    structs.NewStringAttribute(endpoint.Name()),
		"socket":        structs.NewStringAttribute(endpoint.Path()),
		"rootless":      structs.NewBoolAttribute(endpoint.Rootless()),
		"hostUser":      structs.NewStringAttribute(endpoint.User().Name),
	}
	// As the kernel says it now, when the host user's manager runs.
	if user := endpoint.User(); user != rootless.Unknown {
		if delegation, err := cgroupv2.DelegatedTo(user.Name, user.UID); err == nil {
			attributes["cgroupControllers"] = structs.NewStringAttribute(strings.Join(delegation.Controllers, ","))
		}
	}
	if info := state.Info; info.APIVersion != "" {
		attributes["version"] = structs.NewStringAttribute(info.APIVersion)
		attributes["cgroupVersion"] = structs.NewStringAttribute(info.CgroupVersion)
		attributes["ociRuntime"] = structs.NewStringAttribute(info.OCIRuntime)
		attributes["appArmor"] = structs.NewBoolAttribute(info.AppArmor)
		attributes["seccompEnabled"] = structs.NewBoolAttribute(info.Seccomp)
		attributes["selinuxEnabled"] = structs.NewBoolAttribute(info.SELinux)
		attributes["capabilities"] = structs.NewStringAttribute(info.Capabilities)
	}
	return attributes
}

var notAlphanumeric = regexp.MustCompile(`[^A-Za-z0-9]`)

// attributeName is a socket's name as it stands in attributes.
func attributeName(socket string) string {
	return notAlphanumeric.ReplaceAllString(socket, "_")
}
