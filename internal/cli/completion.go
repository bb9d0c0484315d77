package cli

import (
	"embed"

	"github.com/urfave/cli/v2"
)

//go:embed completion
var completions embed.FS

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script for bash, zsh or fish",
		UsageText: "meshd completion bash|zsh|fish\n\nsource <(meshd completion bash)",
		Category:  other,
		BashComplete: func(c *cli.Context) {
			for _, shell := range []string{"bash", "zsh", "fish"} {
				writeLine(c, shell)
			}
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "name one shell: bash, zsh or fish")
			}
			script, err := completions.ReadFile("completion/meshd." + c.Args().First())
			if err != nil {
				return usagef(c, "there is no completion for %q: it knows bash, zsh and fish", c.Args().First())
			}
			_, err = c.App.Writer.Write(script)
			return err
		},
	}
}
