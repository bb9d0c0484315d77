package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "show who changed what in the mesh, and when",
		UsageText: "meshd audit [--actor WHO] [--action WHAT] [--object KIND/NAME] [--since TIME] [--until TIME]\n" +
			"            [--limit N] [-o table|json|yaml]\n\n" +
			"meshd audit --object 'route/*' --since 24h\n" +
			"meshd audit --actor token/3f9a1c -o json",
		Description: "Newest first. A change that was refused is there too, with the reason. TIME is\n" +
			"2026-01-31, 2026-01-31T12:00:00Z, or a duration: that long ago. WHO and KIND/NAME\n" +
			"may end in *. The newest 16,384 changes are kept.",
		Category: look,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "actor", Usage: "only what `WHO` did: user/UID, token/ID, join-token/ID, server/NAME or host/NAME"},
			&cli.StringFlag{Name: "action", Usage: "only this `ACTION`, such as apply, delete, join or 'token create'"},
			&cli.StringFlag{Name: "object", Usage: "only what was done to this `OBJECT`, such as route/orders"},
			&cli.StringFlag{Name: "since", Usage: "only from this `TIME` on"},
			&cli.StringFlag{Name: "until", Usage: "only before this `TIME`"},
			&cli.UintFlag{Name: "limit", Usage: "at most `N` changes; 0 shows all", Value: 100},
			outputFlag(),
		},
		Action: auditAction,
	}
}

func auditAction(c *cli.Context) error {
	format, err := noArguments(c)
	if err != nil {
		return err
	}
	request := &apiv1.AuditRequest{Actor: c.String("actor"), Action: c.String("action"), Object: c.String("object")}
	if request.SinceUnix, err = timeFlag(c, "since"); err != nil {
		return err
	}
	if request.UntilUnix, err = timeFlag(c, "until"); err != nil {
		return err
	}
	return askMesh(c, "read the audit", func(a *adminCall) error {
		all, err := auditPages(a, request, int(c.Uint("limit")))
		if err != nil {
			return err
		}
		return printMessage(c, format, all, func(t *table) { auditRows(t, all.Records) })
	})
}

func auditPages(a *adminCall, request *apiv1.AuditRequest, limit int) (*apiv1.AuditReply, error) {
	all := &apiv1.AuditReply{}
	err := client.Pages(func(p *apiv1.Page) (string, error) {
		if limit > 0 {
			p.Size = uint32(min(limit, 1000))
		}
		request.Page = p
		reply, err := a.admin.Audit(a.ctx, request)
		all.Records = append(all.Records, reply.GetRecords()...)
		if limit > 0 && len(all.Records) >= limit {
			all.Records = all.Records[:limit]
			return "", err
		}
		return reply.GetNext(), err
	})
	return all, err
}

func who(r *apiv1.AuditRecord) string {
	if role := enumWord(r.Role.String(), "ROLE_"); role != "" {
		return fmt.Sprintf("%s (%s)", r.Actor, role)
	}
	return r.Actor
}

// timeFlag reads a moment, or how long ago it was; 0 when the option is not given.
func timeFlag(c *cli.Context, name string) (unix int64, err error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago).Unix(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil && at.Unix() > 0 {
			return at.Unix(), nil
		}
	}
	return 0, usagef(c, "--%s %q is no time: write 2026-01-31, 2026-01-31T12:00:00Z or 24h", name, text)
}

func auditRows(t *table, records []*apiv1.AuditRecord) {
	t.row("TIME", "WHO", "FROM", "ACTION", "OBJECTS", "RESULT")
	for _, r := range records {
		result := "done"
		if r.Refusal != "" {
			result = "refused: " + r.Refusal
		}
		at := time.Unix(0, r.TimeUnixNano).UTC().Format(time.RFC3339)
		t.row(at, who(r), r.Source, r.Action, shorten(strings.Join(r.Objects, ","), 60), result)
	}
}
