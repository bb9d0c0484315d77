package cli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/codes"

	"github.com/meshd/meshd/internal/host"
)

// A failure is an error as a person reads it.
type failure struct {
	what   string // in a few words
	cause  error
	effect string // what it means for the mesh or for the person
	next   string // what to do about it

	code codes.Code // of an answer, when one came
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.what
	}
	return f.what + ": " + f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

// A usageError is a command line that makes no sense.
type usageError struct {
	what string
	next string
}

func (e *usageError) Error() string { return e.what }

// report prints an error and gives the exit status that goes with it.
func report(w io.Writer, err error) int {
	var usage *usageError
	if errors.As(err, &usage) {
		printFailure(w, usage.what, "", "", usage.next)
		return exitUsage
	}
	if errors.Is(err, errLogged) {
		return exitFailure
	}
	if errors.Is(err, errDiffers) {
		return exitDiffers
	}
	f := asFailure(err)
	printFailure(w, f.what, text(f.cause), f.effect, f.next)
	return exitFailure
}

// asFailure gives an error as a failure of its own, which may be changed.
func asFailure(err error) *failure {
	var f *failure
	var h *host.Error
	switch {
	case errors.As(err, &f):
		own := *f
		return &own
	case errors.As(err, &h):
		return &failure{what: "cannot " + h.Doing, cause: h.Err, next: h.Fix}
	}
	return &failure{what: err.Error()}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func printFailure(w io.Writer, what, cause, effect, next string) {
	fmt.Fprintf(w, "meshd: %s\n", what)
	for _, line := range []struct{ label, text string }{{"cause:", cause}, {"effect:", effect}, {"next:", next}} {
		if line.text != "" {
			fmt.Fprintf(w, "  %-7s %s\n", line.label, strings.ReplaceAll(line.text, "\n", "\n          "))
		}
	}
}

func usagef(c *cli.Context, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...), "see how it is used: " + c.Command.HelpName + " --help"}
}

// unknownCommand names the command that was perhaps meant.
func unknownCommand(parent string, commands []*cli.Command, name string) error {
	next := "see all commands: " + parent + " --help"
	if best := closest(name, commandNames(commands)); best != "" {
		next = fmt.Sprintf("perhaps you mean: %s %s", parent, best)
	}
	return &usageError{fmt.Sprintf("there is no command %q", strings.TrimSpace(parent+" "+name)), next}
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Names()...)
		}
	}
	return names
}

var undefinedFlag = regexp.MustCompile(`^flag provided but not defined: --?(.+)$`)
var badValue = regexp.MustCompile(`^invalid value (".*") for flag --?(\S+): (.*)$`)

// onUsageError puts the flag parser's complaints in our words.
func onUsageError(c *cli.Context, err error, _ bool) error {
	if m := undefinedFlag.FindStringSubmatch(err.Error()); m != nil {
		return unknownFlag(c, m[1])
	}
	if m := badValue.FindStringSubmatch(err.Error()); m != nil {
		return usagef(c, "%s is no value for %s: %s", m[1], dashed(m[2]), whyBad(c, m[2], m[3]))
	}
	return usagef(c, "%v", err)
}

// whyBad says what an option takes, where the parser says no more than that it
// cannot parse.
func whyBad(c *cli.Context, flag, why string) string {
	switch findFlag(c.Command.Flags, flag).(type) {
	case *cli.DurationFlag:
		return "write a duration, such as 30m or 24h"
	case *cli.IntFlag, *cli.UintFlag, *cli.Uint64Flag:
		return "write a number"
	}
	return why
}

func unknownFlag(c *cli.Context, name string) error {
	var names []string
	for _, f := range append(c.Command.Flags, c.App.Flags...) {
		names = append(names, f.Names()...)
	}
	next := "see all options: " + c.Command.HelpName + " --help"
	if best := closest(name, names); best != "" {
		next = "perhaps you mean: " + dashed(best)
	}
	return &usageError{fmt.Sprintf("%s has no option %s", c.Command.HelpName, dashed(name)), next}
}

func dashed(flag string) string {
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}
