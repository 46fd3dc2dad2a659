// Package finding is the form in which the rooms of this house tell what they have found out about a host: preflight
// prints findings, and the driver's errors and fingerprint are made of the same ones.
package finding

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Status says what a finding means for tasks.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warn    Status = "warn"    // tasks run, but not all that they may ask for works
	Fail    Status = "fail"    // tasks fail
	Skipped Status = "skipped" // it could not be looked at, or does not matter here
)

// Host is the subject of findings that are nobody's in particular.
const Host = "host"

// Finding is what one look at a host has shown.
type Finding struct {
	ID      string // what was looked at; stable, the same for all subjects
	Subject string // of whom or what: Host, the name of a host user, or that of a socket
	Status  Status
	Seen    string // what is there
	Why     string // why that matters; empty when OK or skipped
	Remedy  Remedy
	Cause   error // what Err wraps; may be nil
}

// Remedy mends what was found.
type Remedy struct {
	Commands []string // of a root shell, to be run in this order
	Advice   string   // what no command can do, or what to know before one runs them
	// Safe says that the commands can be run unattended and again: they take nothing from anybody that a task or a user
	// has, and end nothing that runs in a container or a session.
	Safe bool
}

// IsZero tells whether there is none.
func (r Remedy) IsZero() bool { return len(r.Commands) == 0 && r.Advice == "" }

// Good is a finding with which all is well.
func Good(id, subject, format string, args ...any) Finding {
	return Finding{ID: id, Subject: subject, Status: OK, Seen: fmt.Sprintf(format, args...)}
}

// Skip is a finding of something that was not looked at. reason says why not.
func Skip(id, subject, format string, args ...any) Finding {
	return Finding{ID: id, Subject: subject, Status: Skipped, Seen: fmt.Sprintf(format, args...)}
}

// Unknown is a finding of something that could not be found out: a warning that says why not.
func Unknown(id, subject string, err error) Finding {
	return Finding{ID: id, Subject: subject, Status: Warn, Seen: "cannot be told: " + err.Error(), Cause: err,
		Why: "what is not known may still make tasks fail"}
}

// Err is nil unless tasks fail of what was found. Its text is the whole finding in one line.
func (f Finding) Err() error {
	if f.Status != Fail {
		return nil
	}
	text := f.Seen
	if f.Why != "" {
		text += ": " + f.Why
	}
	if remedy := f.Remedy.String(); remedy != "" {
		text += "; " + remedy
	}
	if f.Cause == nil {
		return errors.New(text)
	}
	return &failure{text, f.Cause}
}

// failure is a finding as an error. Its text tells of the cause already.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

// String is the remedy as the end of an error's text.
func (r Remedy) String() string {
	text := r.Advice
	if len(r.Commands) > 0 {
		if text != "" {
			text += "; "
		}
		text += "as root, run: " + strings.Join(r.Commands, " && ")
	}
	return text
}

// Command is a program and its arguments as a shell takes them (POSIX, 2.2 Quoting).
func Command(args ...string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = arg
		if arg == "" || strings.ContainsFunc(arg, isSpecial) {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// isSpecial tells the characters that a shell may take for something else.
func isSpecial(r rune) bool {
	plain := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
	return !plain && !strings.ContainsRune("_-./:=,+@%", r)
}

// maxText bounds what Printable leaves of a text, in bytes.
const maxText = 200

// Printable makes a line of a text that somebody else has written, such as a file of a host user's: without control
// characters, and not for ever.
func Printable(text string) string {
	end := ""
	if len(text) > maxText {
		text, end = text[:maxText], "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " ")) + end // what is not UTF-8 would become three times as long
}
