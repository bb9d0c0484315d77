package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func caCommand() *cli.Command {
	return &cli.Command{
		Name:        "ca",
		Usage:       "show or rotate the mesh's certificate authority",
		UsageText:   "meshd ca show|rotate",
		Category:    configure,
		Subcommands: []*cli.Command{caShowCommand(), caRotateCommand()},
	}
}

func caShowCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the authority's certificates, and how far a rotation is",
		UsageText: "meshd ca show [-o table|json|yaml]\n\nmeshd ca show -o json",
		Description: "The pin is what join tokens carry to know the mesh by. Private keys are never\n" +
			"shown; whether the mesh holds them is.",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			format, err := noArguments(c)
			if err != nil {
				return err
			}
			return askMesh(c, "show the certificate authority", func(a *adminCall) error {
				reply, err := a.admin.ShowAuthority(a.ctx, &apiv1.ShowAuthorityRequest{})
				if err != nil {
					return err
				}
				if format != formatTable {
					return printMessage(c, format, reply, nil)
				}
				return writeTables(c.App.Writer, authorityTable(reply, time.Now()), certificateTable(reply.Certificates))
			})
		},
	}
}

func authorityTable(r *apiv1.ShowAuthorityReply, now time.Time) *table {
	t := &table{}
	t.row("trust domain", r.TrustDomain)
	t.row("generation", r.Generation)
	if r.Rotation == nil {
		t.row("rotation", "none under way")
		return t
	}
	rotationRows(t, r.Rotation, now)
	return t
}

// rotationRows tells how a rotation stands.
func rotationRows(t *table, r *apiv1.RotationStatus, now time.Time) {
	t.row("rotation", fmt.Sprintf("%s; begun %s ago by %s", phaseWords(r.Phase), since(r.StartedUnix, now), cmp.Or(r.StartedBy, "nobody known")))
	if len(r.WaitingFor) == 0 {
		words := "nobody"
		if r.Phase == apiv1.Rotation_PHASE_RENEW {
			words += "; connections are given a minute to end"
		}
		t.row("waits for", words)
		return
	}
	t.row("waits for", strings.Join(r.WaitingFor, ", "))
	if r.DeadlineUnix != 0 {
		t.row("", "for hosts until "+time.Unix(r.DeadlineUnix, 0).UTC().Format(time.RFC3339))
	}
}

func since(unix int64, now time.Time) time.Duration {
	return now.Sub(time.Unix(unix, 0)).Round(time.Second)
}

func phaseWords(p apiv1.Rotation_Phase) string {
	switch p {
	case apiv1.Rotation_PHASE_TRUST:
		return "step 1 of 3, all learn to trust the next root"
	case apiv1.Rotation_PHASE_RENEW:
		return "step 2 of 3, certificates are renewed under the new root"
	case apiv1.Rotation_PHASE_RETIRE:
		return "step 3 of 3, the old root is trusted no more"
	}
	return enumWord(p.String(), "PHASE_")
}

func certificateTable(certificates []*apiv1.CertificateInfo) *table {
	t := &table{}
	t.row("CERTIFICATE", "SUBJECT", "EXPIRES", "KEY", "PIN")
	for _, c := range certificates {
		key := "elsewhere"
		if c.KeyHeld {
			key = "in the mesh"
		}
		t.row(c.Use, c.Subject, time.Unix(c.NotAfterUnix, 0).UTC().Format(time.DateOnly), key, c.Pin)
	}
	return t
}

func caRotateCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "replace the root, or only the issuing certificate, while calls go on",
		UsageText: "meshd ca rotate [--cert FILE --key FILE | --issuing | --force] [-o table|json|yaml]\n\n" +
			"meshd ca rotate\nmeshd ca rotate --cert mesh-ca.pem --key mesh-ca.key",
		Description: "First all hosts and servers learn to trust the next root, then all certificates\n" +
			"are renewed under it, and then the old root is trusted no more. Each step waits for\n" +
			"everybody who is alive: meshd ca show tells for whom. The command returns at once.\n" +
			"Join tokens that were made before work until the last step.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "cert", Usage: "take the authority in this `FILE`, a root or an intermediate certificate with all above it (PEM)", DefaultText: "a root is made"},
			&cli.StringFlag{Name: "key", Usage: "the `FILE` with the private key of its first certificate (PEM, mode 0600)"},
			&cli.BoolFlag{Name: "issuing", Usage: "replace only the issuing certificate, under the present root"},
			&cli.BoolFlag{Name: "force", Usage: "end the present step without those that are missing: they have to join again"},
			outputFlag(),
		},
		Action: caRotateAction,
	}
}

func caRotateAction(c *cli.Context) error {
	format, err := noArguments(c)
	if err != nil {
		return err
	}
	request, err := rotateRequest(c)
	if err != nil {
		return err
	}
	return changeMesh(c, "rotate the certificate authority", func(a *adminCall) error {
		reply, err := a.admin.RotateAuthority(a.ctx, request)
		clear(request.KeyPem)
		if err != nil {
			return err
		}
		return printMessage(c, format, reply, func(t *table) { rotatedRows(t, request, reply, time.Now()) })
	})
}

func rotateRequest(c *cli.Context) (*apiv1.RotateAuthorityRequest, error) {
	r := &apiv1.RotateAuthorityRequest{IssuingOnly: c.Bool("issuing"), Force: c.Bool("force")}
	chosen := []bool{r.IssuingOnly, r.Force, c.IsSet("cert") || c.IsSet("key")}
	if len(slices.DeleteFunc(chosen, func(b bool) bool { return !b })) > 1 {
		return nil, usagef(c, "--issuing, --force and --cert with --key go each alone")
	}
	// Read here as well, so that what is wrong is known before anything is sent.
	if _, err := readBundle(c, "cert", "key"); err != nil {
		return nil, err
	}
	var err error
	r.CertificatesPem, r.KeyPem, err = readPEM(c, "cert", "key")
	return r, err
}

func rotatedRows(t *table, request *apiv1.RotateAuthorityRequest, r *apiv1.RotateAuthorityReply, now time.Time) {
	switch {
	case r.Rotation != nil:
		rotationRows(t, r.Rotation, now)
		t.row("next", "see how far it is: meshd ca show")
	case request.Force:
		t.row("rotation", "complete")
	default:
		t.row("issuing", "the new certificate is in force, and those of hosts and services are being renewed")
	}
	if len(r.LeftBehind) > 0 {
		t.row("left behind", strings.Join(r.LeftBehind, ", ")+": those that do not come along in time have to join again")
	}
}
