package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/internal/config"
)

// A format is a way to print a listing.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `FORMAT`, one of table, json, yaml", Value: string(formatTable)}
}

func staleFlag() cli.Flag {
	return &cli.BoolFlag{Name: "stale", Usage: "show what the nearest server has, though newer changes may be missing; needs no leader"}
}

func outputFormat(c *cli.Context) (format, error) {
	switch f := format(c.String("output")); f {
	case formatTable, formatJSON, formatYAML:
		return f, nil
	default:
		return "", usagef(c, "there is no output format %q: choose table, json or yaml", string(f))
	}
}

// noArguments gives the output format of a command that takes no argument.
func noArguments(c *cli.Context) (format, error) {
	if c.Args().Present() {
		return "", usagef(c, "%s takes no argument, but has %q", c.Command.HelpName, c.Args().First())
	}
	return outputFormat(c)
}

// printMessage prints a reply, the table being written by rows.
func printMessage(c *cli.Context, format format, reply proto.Message, rows func(*table)) error {
	if format == formatTable {
		t := &table{}
		rows(t)
		return t.write(c.App.Writer)
	}
	data, err := messageJSON(reply)
	if err != nil {
		return err
	}
	return printData(c.App.Writer, format, data)
}

// Every field is there, empty or not, so that a script need not ask whether.
func messageJSON(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return data, nil
}

// printData prints a JSON document as JSON or YAML, the same bytes every time.
func printData(w io.Writer, format format, data []byte) error {
	if format == formatYAML {
		out, err := config.JSONToYAML(data)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

func printJSON(c *cli.Context, format format, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return printData(c.App.Writer, format, data)
}

// A table is printed with its columns aligned.
type table struct {
	rows [][]string
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = printable(fmt.Sprint(cell))
		if row[i] == "" && len(cells) > 2 {
			row[i] = "-" // an empty cell would look like a missing column
		}
	}
	t.rows = append(t.rows, row)
}

// printable keeps what a program printed, such as a check's output, from moving
// columns or speaking to the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// shorten keeps a long cell from spreading its column.
func shorten(s string, limit int) string {
	chars := []rune(s)
	if len(chars) <= limit {
		return s
	}
	return string(chars[:limit-3]) + "..."
}

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

func writeLine(c *cli.Context, args ...any) {
	fmt.Fprintln(c.App.Writer, args...)
}

// writeTables prints tables one below the other; those without a row are left
// out.
func writeTables(w io.Writer, tables ...*table) error {
	first := true
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

// count gives a number of things in words.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
