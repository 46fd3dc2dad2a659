// Probe is the program of the probe image: it prints as JSON what a container sees,
// and behaves as tests need it.
//
//	probe [report]            the JSON of type Report, and ends
//	probe stay                the JSON in one line, then as "signals"
//	probe exit CODE           ends with that code
//	probe kill SIGNAL         ends by that signal
//	probe ignore              ignores every signal that can be
//	probe signals [FILE]      a line for each signal (to FILE too); INT, QUIT and TERM end it with 0
//	probe count N [PACE]      the lines 1 to N, PACE (a duration) apart, then ends
//	probe memory BYTES        touches so much memory, says so, stays
//	probe cpu [THREADS]       spins
//	probe line BYTES          one line of x of that length
//	probe bytes BYTES         binary: byte i is i*7 + i/256, so every value and no lines to speak of
//	probe child ARGS…         "probe ARGS…" as a child, says how it ended, stays
//
// "-e" before the verb writes to stderr instead of stdout. BYTES may end in K, M, G.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	out := os.Stdout
	if len(args) > 0 && args[0] == "-e" {
		args, out = args[1:], os.Stderr
	}
	if len(args) == 0 {
		args = []string{"report"}
	}
	if err := behave(out, args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(125)
	}
}

func behave(out *os.File, verb string, args []string) error {
	switch verb {
	case "report":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(Look())
	case "stay":
		if err := json.NewEncoder(out).Encode(Look()); err != nil {
			return err
		}
		return signals(out)
	case "exit":
		code, err := number(args, 0)
		if err != nil {
			return err
		}
		os.Exit(code)
	case "kill":
		return killSelf(args)
	case "ignore":
		signal.Ignore()
		return stay(out, "ignoring signals")
	case "signals":
		if len(args) == 0 {
			return signals(out)
		}
		file, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // the test's own file
		if err != nil {
			return err
		}
		return errors.Join(signals(io.MultiWriter(out, file)), file.Close())
	case "count":
		return count(out, args)
	case "memory":
		return memory(out, args)
	case "cpu":
		return spin(out, args)
	case "line":
		return write(out, args, func(int) byte { return 'x' }, "\n")
	case "bytes":
		return write(out, args, func(i int) byte { return byte(i*7 + i/256) }, "")
	case "child":
		return child(out, args)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// number is the i-th argument, a number that may end in K, M or G.
func number(args []string, i int) (int, error) {
	if i >= len(args) {
		return 0, errors.New("a number is missing")
	}
	text, shift := args[i], 0
	for unit, bits := range map[string]int{"K": 10, "M": 20, "G": 30} {
		if strings.HasSuffix(text, unit) {
			text, shift = strings.TrimSuffix(text, unit), bits
		}
	}
	n, err := strconv.Atoi(text)
	return n << shift, err
}

// stay says something and waits for ever.
func stay(out io.Writer, what string) error {
	if _, err := fmt.Fprintln(out, what); err != nil {
		return err
	}
	for {
		time.Sleep(time.Hour)
	}
}

func signals(out io.Writer) error {
	received := make(chan os.Signal, 64)
	signal.Notify(received)
	if _, err := fmt.Fprintln(out, "waiting for signals"); err != nil {
		return err
	}
	for sig := range received {
		number, _ := sig.(syscall.Signal)
		// The Go runtime sends itself SIGURG.
		if number == syscall.SIGURG {
			continue
		}
		if _, err := fmt.Fprintln(out, unix.SignalName(number)); err != nil {
			return err
		}
		switch number {
		case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
			return nil
		}
	}
	return nil
}

// killSelf ends by a signal. The first process of a PID namespace is spared by
// signals from within it, so it then ends with the code that shells would give.
func killSelf(args []string) error {
	if len(args) == 0 {
		return errors.New("a signal is missing")
	}
	sig := unix.SignalNum(args[0])
	if sig == 0 {
		return fmt.Errorf("unknown signal %q", args[0])
	}
	signal.Reset(sig)
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		return err
	}
	time.Sleep(time.Second)
	os.Exit(128 + int(sig))
	return nil
}

func count(out io.Writer, args []string) error {
	n, err := number(args, 0)
	if err != nil {
		return err
	}
	var pace time.Duration
	if len(args) > 1 {
		if pace, err = time.ParseDuration(args[1]); err != nil {
			return err
		}
	}
	buffered := bufio.NewWriter(out)
	for i := 1; i <= n; i++ {
		if _, err := fmt.Fprintln(buffered, i); err != nil {
			return err
		}
		if pace > 0 {
			if err := buffered.Flush(); err != nil {
				return err
			}
			time.Sleep(pace)
		}
	}
	return buffered.Flush()
}

func memory(out io.Writer, args []string) error {
	n, err := number(args, 0)
	if err != nil {
		return err
	}
	held := make([]byte, n)
	for i := 0; i < n; i += os.Getpagesize() {
		held[i] = 1
	}
	err = stay(out, fmt.Sprintf("holding %d bytes", n))
	runtime.KeepAlive(held)
	return err
}

func spin(out io.Writer, args []string) error {
	threads := 1
	if len(args) > 0 {
		var err error
		if threads, err = number(args, 0); err != nil {
			return err
		}
	}
	runtime.GOMAXPROCS(threads + 1)
	for range threads {
		go func() {
			for { //nolint:staticcheck // spinning is the purpose
			}
		}()
	}
	return stay(out, fmt.Sprintf("spinning on %d", threads))
}

// write writes a number of bytes in one go, and an end.
func write(out io.Writer, args []string, value func(i int) byte, end string) error {
	n, err := number(args, 0)
	if err != nil {
		return err
	}
	text := make([]byte, n, n+len(end))
	for i := range text {
		text[i] = value(i)
	}
	_, err = out.Write(append(text, end...))
	return err
}

func child(out io.Writer, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, args...) //nolint:gosec // the test's own arguments
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	how := "child ended: exit status 0"
	if err := cmd.Run(); err != nil {
		how = fmt.Sprintf("child ended: %v", err)
	}
	return stay(out, how)
}
