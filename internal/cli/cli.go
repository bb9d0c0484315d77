// Package cli is meshd's command line.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/version"
)

// Exit statuses.
const (
	exitFailure = 1 // it was tried and did not work
	exitUsage   = 2 // the command line makes no sense
	exitDiffers = 3 // of diff --exit-code: something would change
)

// Main runs meshd as the process was called and gives its exit status. SIGTERM
// and SIGINT end a command; a service ends in good order.
func Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
}

// Run runs one command line, args[0] being the program's name, and gives its
// exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp()
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return 0
	}
	return report(stderr, err)
}

// Headings of the list of commands, in its order.
const (
	setUp     = "Set up a host"
	services  = "Services of this host"
	configure = "The mesh's configuration"
	look      = "Looking around"
	run       = "What the units run"
	other     = "Other"
)

func newApp() *cli.App {
	app := &cli.App{
		Name:      "meshd",
		Usage:     "a service mesh for machines run by systemd",
		UsageText: "meshd COMMAND [ARGUMENT]... [OPTION]...",
		Commands: []*cli.Command{
			initCommand(), joinCommand(), leaveCommand(), recoverCommand(),
			serviceCommand(),
			applyCommand(), diffCommand(), validateCommand(), getCommand(), deleteCommand(),
			tokenCommand(), caCommand(), accessCommand(), keyringCommand(), snapshotCommand(),
			statusCommand(), membersCommand(), raftCommand(), auditCommand(), explainCommand(), devCommand(),
			serverCommand(), agentCommand(),
			versionCommand(), completionCommand(), helpCommand(),
		},
		Flags:                     append([]cli.Flag{socketFlag()}, append(remoteFlags(), versionFlag(), cli.HelpFlag)...),
		Action:                    rootAction,
		EnableBashCompletion:      true,
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		OnUsageError:              onUsageError,
		// Errors are reported by Run alone.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, command := range app.Commands {
		finish(command, app.Name)
		command.HelpName = "" // urfave/cli sets it, and would prefix what is there
	}
	app.CustomAppHelpTemplate = appHelp(app, []string{setUp, services, configure, look, run, other})
	return app
}

// finish sets what is the same for every command.
func finish(command *cli.Command, parent string) {
	command.HelpName = parent + " " + command.Name
	command.CustomHelpTemplate = commandHelp(command, command.HelpName)
	command.HideHelpCommand = true
	command.OnUsageError = onUsageError
	if len(command.Subcommands) > 0 && command.Action == nil {
		command.Action = groupAction
	}
	for _, sub := range command.Subcommands {
		finish(sub, command.HelpName)
	}
}

func versionFlag() cli.Flag {
	return &cli.BoolFlag{Name: "version", Usage: "print the version and exit"}
}

func rootAction(c *cli.Context) error {
	if c.Bool("version") {
		return printVersion(c, version.Get(), formatTable)
	}
	if c.Args().Present() {
		return unknownCommand("meshd", c.App.Commands, c.Args().First())
	}
	return cli.ShowAppHelp(c)
}

// groupAction answers for a command that only has others below it.
func groupAction(c *cli.Context) error {
	if c.Args().Present() {
		return unknownCommand(c.Command.HelpName, c.Command.Subcommands, c.Args().First())
	}
	return cli.ShowSubcommandHelp(c)
}
