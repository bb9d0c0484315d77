package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/mesh"
)

func serviceAddCommand() *cli.Command {
	return &cli.Command{
		Name:  "add",
		Usage: "bring a service of this host into the mesh",
		UsageText: "meshd service add NAME --port PORT [OPTION]...\n\n" +
			"meshd service add orders --port 8080 --check http:/healthz\n" +
			"meshd service add db --port 5432 --check tcp --unit postgresql@15-main.service",
		Description: "The application listens on 127.0.0.1:PORT. Others then reach it as NAME.mesh,\n" +
			"and calls that its unit makes bear its name. Adding it again changes it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "port", Aliases: []string{"p"}, Usage: "the application listens on this `PORT` (required)"},
			&cli.StringFlag{Name: "protocol", Usage: "the `PROTOCOL`, http, grpc or tcp", DefaultText: "that of the check; without one, http if the application answers HTTP now, else tcp"},
			&cli.StringSliceFlag{Name: "check", Usage: "a `CHECK`, one of http:/PATH, tcp, tcp:PORT, tcp:ADDRESS:PORT (repeat for more)"},
			&cli.DurationFlag{Name: "check-interval", Usage: "check every `DURATION`", Value: mesh.DefaultCheckInterval},
			&cli.DurationFlag{Name: "check-timeout", Usage: "a check fails without an answer in `DURATION`", Value: mesh.DefaultCheckTimeout},
			&cli.StringFlag{Name: "unit", Usage: "the systemd `UNIT` that speaks as this service", DefaultText: "the one that listens on the port"},
			&cli.StringFlag{Name: "user", Usage: "the `USER` that speaks as this service"},
			&cli.StringFlag{Name: "id", Usage: "an `ID` that tells several instances on one host apart", DefaultText: "the name"},
			&cli.StringSliceFlag{Name: "tag", Usage: "a `TAG` for subsets and DNS (repeat for more)"},
			&cli.StringSliceFlag{Name: "meta", Usage: "a `KEY=VALUE` for subsets (repeat for more)"},
			&cli.UintFlag{Name: "weight", Usage: "the `WEIGHT`, its share of the calls next to other instances", Value: mesh.DefaultWeight},
		},
		Action: serviceAddAction,
	}
}

func serviceAddAction(c *cli.Context) error {
	declaration, err := declarationOf(c)
	if err != nil {
		return err
	}
	return changeHost(c, "add the service "+declaration.Name, func(l *localCall) error {
		reply, err := l.local.AddService(l.ctx, &apiv1.AddServiceRequest{Declaration: declaration})
		if err != nil {
			return err
		}
		printAdded(c, mesh.CompleteDeclaration(declaration), reply)
		return nil
	})
}

// declarationOf reads the options; every mistake in them is a usage error.
func declarationOf(c *cli.Context) (*apiv1.Declaration, error) {
	if c.NArg() != 1 {
		return nil, usagef(c, "name one service")
	}
	port, err := portOf(c)
	if err != nil {
		return nil, err
	}
	d := &apiv1.Declaration{
		Name: c.Args().First(),
		Id:   c.String("id"),
		Port: port,
		Unit: c.String("unit"),
		User: c.String("user"),
		Tags: c.StringSlice("tag"),
	}
	if c.IsSet("weight") {
		d.Weight = proto.Uint32(uint32(min(c.Uint("weight"), 1<<31)))
	}
	for _, set := range []func(*cli.Context, *apiv1.Declaration) error{setProtocol, setMeta, setChecks} {
		if err := set(c, d); err != nil {
			return nil, err
		}
	}
	if problems := mesh.CheckDeclaration(d); len(problems) > 0 {
		return nil, &usageError{problems[0].Message, problems[0].Fix}
	}
	return d, nil
}

func portOf(c *cli.Context) (uint32, error) {
	if !c.IsSet("port") {
		return 0, usagef(c, "--port is missing: on which port does the application listen?")
	}
	port, err := strconv.ParseUint(c.String("port"), 10, 16)
	if err != nil || port == 0 {
		return 0, usagef(c, "%q is no port: give a number from 1 to 65535", c.String("port"))
	}
	return uint32(port), nil
}

func setProtocol(c *cli.Context, d *apiv1.Declaration) error {
	switch p := c.String("protocol"); p {
	case "":
	case "http":
		d.Protocol = apiv1.Protocol_PROTOCOL_HTTP
	case "grpc":
		d.Protocol = apiv1.Protocol_PROTOCOL_GRPC
	case "tcp":
		d.Protocol = apiv1.Protocol_PROTOCOL_TCP
	default:
		return usagef(c, "there is no protocol %q: choose http, grpc or tcp", p)
	}
	return nil
}

func setMeta(c *cli.Context, d *apiv1.Declaration) error {
	for _, pair := range c.StringSlice("meta") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return usagef(c, "--meta %q is not KEY=VALUE", pair)
		}
		if d.Meta == nil {
			d.Meta = map[string]string{}
		}
		d.Meta[key] = value
	}
	return nil
}

func setChecks(c *cli.Context, d *apiv1.Declaration) error {
	for _, short := range c.StringSlice("check") {
		check, err := config.ParseCheck(short)
		if err != nil {
			return usagef(c, "%v", err)
		}
		check.Interval = durationIfSet(c, "check-interval")
		check.Timeout = durationIfSet(c, "check-timeout")
		d.Checks = append(d.Checks, check)
	}
	if len(d.Checks) == 0 && (c.IsSet("check-interval") || c.IsSet("check-timeout")) {
		return usagef(c, "--check-interval and --check-timeout need a --check")
	}
	return nil
}

func durationIfSet(c *cli.Context, flag string) *durationpb.Duration {
	if !c.IsSet(flag) {
		return nil
	}
	return durationpb.New(c.Duration(flag))
}

func printAdded(c *cli.Context, d *apiv1.Declaration, reply *apiv1.AddServiceReply) {
	t := &table{}
	t.row("service", fmt.Sprintf("%s, port %d, %s", d.Name, d.Port, protocolWord(reply.Protocol)))
	t.row("called as", calledAs(d, reply))
	t.row("unit", orElse(reply.Unit, "none found"))
	for _, warning := range reply.Warnings {
		t.row("warning", warning)
	}
	_ = t.write(c.App.Writer)
}

func calledAs(d *apiv1.Declaration, reply *apiv1.AddServiceReply) string {
	text := fmt.Sprintf("%s.mesh:%d", d.Name, d.Port)
	if reply.Protocol == apiv1.Protocol_PROTOCOL_HTTP {
		text = fmt.Sprintf("http://%s.mesh/", d.Name)
	}
	if reply.Address == "" {
		return text + ", once a server has taken it up"
	}
	return text + " (" + reply.Address + " on this host)"
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
