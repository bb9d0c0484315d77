package cli

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

const completionFlag = "--generate-bash-completion"

// flagsFirst moves options before arguments and global options before the
// command, so that people may write them where they like: urfave/cli takes
// them in that order only.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == completionFlag {
		return args
	}
	s := sorter{app: app}
	s.sort(args[1:])
	sorted := append(args[:1:1], s.global...)
	sorted = append(sorted, s.words...)
	sorted = append(sorted, s.local...)
	if s.asksForHelp() {
		return sorted // urfave/cli would take an argument for a topic of help
	}
	if s.dashes {
		sorted = append(sorted, "--")
	}
	return append(sorted, s.arguments...)
}

type sorter struct {
	app                             *cli.App
	command                         *cli.Command
	global, words, local, arguments []string
	dashes                          bool
}

func (s *sorter) sort(args []string) {
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			s.dashes = true
			s.arguments = append(s.arguments, args[1:]...)
			return
		case strings.HasPrefix(arg, "-") && arg != "-":
			args = s.flag(args)
		default:
			s.word(arg)
			args = args[1:]
		}
	}
}

func (s *sorter) asksForHelp() bool {
	return slices.ContainsFunc(s.local, func(arg string) bool {
		return slices.Contains(cli.HelpFlag.Names(), strings.TrimLeft(arg, "-"))
	})
}

// word takes a command's name, or an argument once no command has that name.
func (s *sorter) word(arg string) {
	commands := s.app.Commands
	if s.command != nil {
		commands = s.command.Subcommands
	}
	if next := findCommand(commands, arg); next != nil && len(s.arguments) == 0 {
		s.command = next
		s.words = append(s.words, arg)
		return
	}
	s.arguments = append(s.arguments, arg)
}

// flag takes an option with its value and gives what follows. An unknown one
// goes along for the parser to complain of.
func (s *sorter) flag(args []string) []string {
	name, _, hasValue := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
	to := &s.local
	var flag cli.Flag
	if s.command != nil {
		flag = findFlag(s.command.Flags, name)
	}
	// Help is asked of the command, though every command has it.
	if flag == nil && !slices.Contains(cli.HelpFlag.Names(), name) {
		if flag = findFlag(s.app.Flags, name); flag != nil {
			to = &s.global
		}
	}
	n := 1
	if flag != nil && takesValue(flag) && !hasValue && len(args) > 1 {
		n = 2
	}
	*to = append(*to, args[:n]...)
	return args[n:]
}

func takesValue(flag cli.Flag) bool {
	_, isBool := flag.(*cli.BoolFlag)
	return !isBool
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return f
			}
		}
	}
	return nil
}
