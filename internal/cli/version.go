package cli

import (
	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/version"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print which build this is",
		UsageText: "meshd version [-o table|json|yaml]\n\nmeshd version -o json",
		Category:  other,
		Flags:     []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return printVersion(c, version.Get(), format)
		},
	}
}

func printVersion(c *cli.Context, info version.Info, format format) error {
	if format == formatTable {
		writeLine(c, info.String())
		return nil
	}
	return printJSON(c, format, info)
}
