package preflight

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/mattn/go-isatty"

	"nomad-driver-podman/cli"
	"nomad-driver-podman/finding"
)

// report is the JSON form, which docs/preflight.schema.json describes. Lists are never null.
type report struct {
	Ready    bool     `json:"ready"` // no finding fails
	Findings []record `json:"findings"`
}

type record struct {
	ID      string         `json:"id"`
	Subject string         `json:"subject"`
	Status  finding.Status `json:"status"`
	Seen    string         `json:"seen"`
	Why     string         `json:"why"`
	Remedy  *remedy        `json:"remedy"`
}

type remedy struct {
	Commands []string `json:"commands"`
	Advice   string   `json:"advice"`
	Safe     bool     `json:"safe"`
}

// PrintJSON writes findings for programs.
func PrintJSON(out io.Writer, findings []finding.Finding) error {
	report := report{Ready: fails(findings) == 0, Findings: []record{}}
	for _, f := range findings {
		record := record{ID: f.ID, Subject: f.Subject, Status: f.Status, Seen: f.Seen, Why: f.Why}
		if !f.Remedy.IsZero() {
			record.Remedy = &remedy{append([]string{}, f.Remedy.Commands...), f.Remedy.Advice, f.Remedy.Safe}
		}
		report.Findings = append(report.Findings, record)
	}
	return cli.PrintJSON(out, report)
}

// PrintText writes findings for people: all of them by subject, then what to do, then whether the host is ready.
func PrintText(out io.Writer, findings []finding.Finding, colour bool) error {
	var text strings.Builder
	status := func(s finding.Status) string {
		padded := fmt.Sprintf("%-7s", s)
		if colour {
			return "\x1b[" + colours[s] + "m" + padded + "\x1b[0m"
		}
		return padded
	}
	width := 0
	for _, f := range findings {
		width = max(width, len(f.ID))
	}
	for _, subject := range subjectsOf(findings) {
		fmt.Fprintln(&text, oneLine(subject))
		for _, f := range findings {
			if f.Subject == subject {
				fmt.Fprintf(&text, "  %s  %-*s  %s\n", status(f.Status), width, f.ID, oneLine(f.Seen))
			}
		}
		fmt.Fprintln(&text)
	}
	for _, f := range findings {
		if f.Status != finding.Fail && f.Status != finding.Warn {
			continue
		}
		fmt.Fprintf(&text, "%s  %s of %s: %s\n", status(f.Status), f.ID, oneLine(f.Subject), oneLine(f.Why))
		if f.Remedy.Advice != "" {
			fmt.Fprintf(&text, "  %s\n", oneLine(f.Remedy.Advice))
		}
		for _, command := range f.Remedy.Commands {
			fmt.Fprintf(&text, "    %s\n", command)
		}
		fmt.Fprintln(&text)
	}
	fmt.Fprintln(&text, summary(findings))
	_, err := io.WriteString(out, text.String())
	return err
}

// colours are those of statuses, as parameters of "select graphic rendition" (console_codes(4)).
var colours = map[finding.Status]string{finding.OK: "32", finding.Warn: "33", finding.Fail: "31", finding.Skipped: "2"}

// subjectsOf are the subjects, in the order in which they first appear.
func subjectsOf(findings []finding.Finding) []string {
	var subjects []string
	for _, f := range findings {
		if !slices.Contains(subjects, f.Subject) {
			subjects = append(subjects, f.Subject)
		}
	}
	return subjects
}

// summary is the last line.
func summary(findings []finding.Finding) string {
	failed, warnings := fails(findings), count(findings, finding.Warn)
	var parts []string
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	if warnings > 0 {
		parts = append(parts, fmt.Sprintf("%d %s", warnings, plural("warning", warnings)))
	}
	text := "ready"
	if failed > 0 {
		text = "not ready"
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

func plural(noun string, n int) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// oneLine is a text on one line, without characters that a terminal could take for orders.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)), " ")
}

// isTerminal tells whether somebody sits at the other end.
func isTerminal(stream any) bool {
	file, is := stream.(*os.File)
	return is && isatty.IsTerminal(file.Fd())
}

// coloured tells whether output may have colours (https://no-color.org).
func coloured(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(out)
}
