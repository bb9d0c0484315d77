package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

// The help of urfave/cli comes from templates that cannot be told much. Ours is
// written out beforehand, and is the template.

// appHelp lists all commands by heading, in the order given.
func appHelp(app *cli.App, headings []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s - %s\n\nUSAGE\n   %s\n", app.Name, app.Usage, app.UsageText)
	for _, heading := range headings {
		fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(heading))
		writeCommands(&b, slices.DeleteFunc(slices.Clone(app.Commands), func(c *cli.Command) bool { return c.Category != heading }))
	}
	b.WriteString("\nGLOBAL OPTIONS\n")
	writeFlags(&b, app.Flags)
	b.WriteString("\nMore on one command: meshd COMMAND --help\n")
	return b.String()
}

func commandHelp(c *cli.Command, fullName string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s - %s\n\nUSAGE\n", fullName, c.Usage)
	for line := range strings.SplitSeq(c.UsageText, "\n") {
		b.WriteString(strings.TrimRight("   "+line, " ") + "\n")
	}
	if c.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", c.Description)
	}
	if len(c.Subcommands) > 0 {
		b.WriteString("\nCOMMANDS\n")
		writeCommands(&b, c.Subcommands)
	}
	if len(c.Flags) > 0 {
		b.WriteString("\nOPTIONS\n")
		writeFlags(&b, c.Flags)
	}
	return b.String()
}

func writeCommands(w io.Writer, commands []*cli.Command) {
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(w, "   %-12s%s\n", c.Name, c.Usage)
		}
	}
}

func writeFlags(w io.Writer, flags []cli.Flag) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range flags {
		if doc, ok := f.(cli.DocGenerationFlag); ok {
			placeholder, usage := splitUsage(doc)
			fmt.Fprintf(tw, "   %s%s\t%s%s\n", flagNames(f), placeholder, usage, flagDefault(doc))
		}
	}
	tw.Flush()
}

// flagNames puts the short name first and lines up the long ones.
func flagNames(f cli.Flag) string {
	short, long := "    ", ""
	for _, name := range f.Names() {
		if len(name) == 1 {
			short = "-" + name + ", "
		} else {
			long = "--" + name
		}
	}
	return short + long
}

// splitUsage takes the backquotes from a usage; what they hold stands for the
// value.
func splitUsage(f cli.DocGenerationFlag) (placeholder, usage string) {
	parts := strings.SplitN(f.GetUsage(), "`", 3)
	if len(parts) == 3 {
		return " " + parts[1], parts[0] + parts[1] + parts[2]
	}
	return "", f.GetUsage()
}

func flagDefault(f cli.DocGenerationFlag) string {
	text := f.GetDefaultText()
	if _, isBool := f.(*cli.BoolFlag); isBool || text == "" {
		return ""
	}
	if env := f.GetEnvVars(); len(env) > 0 {
		return fmt.Sprintf(" (default: $%s or %s)", env[0], strings.Trim(text, `"`))
	}
	return fmt.Sprintf(" (default: %s)", strings.Trim(text, `"`))
}

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "explain a command",
		UsageText: "meshd help [COMMAND]...\n\nmeshd help service add",
		Category:  other,
		Action: func(c *cli.Context) error {
			commands, parent, text := c.App.Commands, c.App.Name, c.App.CustomAppHelpTemplate
			for _, name := range c.Args().Slice() {
				found := findCommand(commands, name)
				if found == nil {
					return unknownCommand(parent, commands, name)
				}
				commands, parent, text = found.Subcommands, found.HelpName, found.CustomHelpTemplate
			}
			_, err := io.WriteString(c.App.Writer, text)
			return err
		},
	}
}
