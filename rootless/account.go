package rootless

import (
	"errors"
	"regexp"
	"strconv"

	"nomad-driver-podman/finding"
)

// creatable are the names that useradd(8) recommends and takes everywhere.
var creatable = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// FindAccount looks for a host user by name, or else by UID. Without one the returned user is Unknown. A locked or expired
// account and one without a login shell are fine: nobody logs in.
func FindAccount(name string) (User, finding.Finding) {
	const id = "account"
	u, err := Lookup(name)
	if uid, perr := strconv.ParseUint(name, 10, 32); perr == nil && errors.Is(err, ErrUnknownUser) {
		u, err = LookupUID(uint32(uid))
	}
	switch {
	case err == nil:
		return u, finding.Good(id, u.Name, "UID %d", u.UID)
	case !errors.Is(err, ErrUnknownUser):
		return Unknown, finding.Unknown(id, finding.Printable(name), err)
	}
	f := finding.Finding{ID: id, Subject: finding.Printable(name), Status: finding.Fail, Cause: err,
		Seen: "/etc/passwd has no account " + strconv.Quote(finding.Printable(name)), Why: "no task can run as this host user"}
	if creatable.MatchString(name) {
		// Not of the system's UIDs, which rootless { min_uid } refuses unless told otherwise. Nobody can log in: it has no password.
		f.Remedy.Commands = []string{finding.Command("useradd", "--create-home", "--shell", "/usr/sbin/nologin", name)}
	} else {
		f.Remedy.Advice = "name an account that exists; for a new one the name must start with a lower case letter and have only these, digits, - and _, at most 32"
	}
	return Unknown, f
}
