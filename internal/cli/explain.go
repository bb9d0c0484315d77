package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/proxy/observe"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "explain a code from the header meshd-error, logs or metrics",
		UsageText: "meshd explain [CODE] [-o table|json|yaml]\n\n" +
			"meshd explain denied",
		Description: "Needs no mesh. Without a code it lists them all.",
		Category:    look,
		Flags:       []cli.Flag{outputFlag()},
		BashComplete: func(c *cli.Context) {
			for _, code := range observe.Codes() {
				writeLine(c, code.Name)
			}
		},
		Action: explainAction,
	}
}

// An explanation is a code as JSON shows it.
type explanation struct {
	Code      string `json:"code"`
	Status    int    `json:"status"`
	Meaning   string `json:"meaning"`
	Remedy    string `json:"remedy"`
	Untouched bool   `json:"untouched"`
}

func explainAction(c *cli.Context) error {
	format, err := outputFormat(c)
	if err != nil {
		return err
	}
	switch c.NArg() {
	case 0:
		return listCodes(c, format)
	case 1:
		return explainCode(c, format, c.Args().First())
	}
	return usagef(c, "name one code")
}

func listCodes(c *cli.Context, format format) error {
	if format == formatTable {
		t := &table{}
		t.row("CODE", "STATUS", "MEANING")
		for _, code := range observe.Codes() {
			t.row(code.Name, code.Status, code.Sentence)
		}
		return t.write(c.App.Writer)
	}
	all := []explanation{}
	for _, code := range observe.Codes() {
		all = append(all, explanationOf(code))
	}
	return printJSON(c, format, all)
}

func explainCode(c *cli.Context, format format, name string) error {
	code := observe.Lookup(name)
	if code == nil {
		return unknownCode(name)
	}
	if format != formatTable {
		return printJSON(c, format, explanationOf(code))
	}
	w := c.App.Writer
	fmt.Fprintf(w, "%s (HTTP status %d)\n\n%s\n", code.Name, code.Status, code.Sentence)
	if code.Untouched {
		fmt.Fprintln(w, "No application has seen the call, so it can be made again whatever it asks.")
	}
	fmt.Fprintf(w, "\nWhat to do:\n%s\n", code.Remedy)
	return nil
}

func unknownCode(name string) error {
	var names []string
	for _, code := range observe.Codes() {
		names = append(names, code.Name)
	}
	next := "see all codes: meshd explain"
	if best := closest(name, names); best != "" {
		next = "perhaps you mean: meshd explain " + best
	}
	return &usageError{fmt.Sprintf("there is no code %q", name), next}
}

func explanationOf(code *observe.Code) explanation {
	return explanation{code.Name, code.Status, code.Sentence, code.Remedy, code.Untouched}
}
