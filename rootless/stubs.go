package rootless

import "nomad-driver-podman/finding"

// This file is stubs: drop it at the merge.

// SubordinateIDs is a stub.
type SubordinateIDs struct{}

// Find is a stub.
func (*SubordinateIDs) Find(u User) finding.Finding { return u.FindSubordinateIDs() }

// FindContainersConf is a stub.
func (u User) FindContainersConf() finding.Finding { return u.findContainersConf("") }

// FindStorageConf is a stub.
func (u User) FindStorageConf() finding.Finding { return u.findStorageConf("") }

// FindRegistriesConf is a stub.
func (u User) FindRegistriesConf() finding.Finding { return u.findRegistriesConf("") }
