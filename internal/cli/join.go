package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/agent"
	"github.com/meshd/meshd/internal/jointoken"
	"github.com/meshd/meshd/server"
)

const tokenEnv = "MESHD_JOIN_TOKEN"

func joinCommand() *cli.Command {
	return &cli.Command{
		Name:  "join",
		Usage: "bring this host into a mesh",
		UsageText: "meshd join [--server] TOKEN|-\n\n" +
			"meshd join mesh1.eyJ...\n" +
			"meshd join --server mesh1.eyJ...\n" +
			"meshd join - < token",
		Description: "Starts an agent as a systemd unit and, with --server, a server too. The token is\n" +
			"from meshd init, or from meshd token create on a server host. Other users of this\n" +
			"host can see a command line for a moment: where that matters, give - and the token\n" +
			"on standard input, or set $" + tokenEnv + ".",
		Category: setUp,
		Flags:    append(setupFlags(), &cli.BoolFlag{Name: "server", Usage: "join as a server too; the token must allow it"}),
		Action:   joinAction,
	}
}

func joinAction(c *cli.Context) error {
	text, err := tokenText(c)
	if err != nil {
		return err
	}
	token, err := checkToken(c, text)
	if err != nil {
		return err
	}
	s, err := beginSetup(c)
	if err != nil {
		return err
	}
	if token.Server {
		err = s.joinServer(text, token)
	} else {
		err = s.joinHost(text)
	}
	if err != nil {
		return err
	}
	resolver, err := s.resolver()
	if err != nil {
		return err
	}
	return s.printJoined(resolver)
}

// tokenText takes the token from the command line, standard input or the
// environment.
func tokenText(c *cli.Context) (string, error) {
	text := c.Args().First()
	switch {
	case c.NArg() > 1:
		return "", usagef(c, "give one token")
	case text == "-":
		line, err := bufio.NewReader(io.LimitReader(c.App.Reader, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the join token: %w", err)
		}
		text = line
	case c.NArg() == 0:
		text = os.Getenv(tokenEnv)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", &usageError{"there is no join token", "make one on a server host: meshd token create"}
	}
	return text, nil
}

// checkToken finds what is wrong with a token before anything is done.
func checkToken(c *cli.Context, text string) (*jointoken.Token, error) {
	token, err := jointoken.Parse(text)
	switch {
	case err != nil:
		return nil, &failure{what: "the join token cannot be used", cause: err, effect: unchanged}
	case token.Server && !c.Bool("server"):
		return nil, &usageError{"this token lets a host join as a server", "if that is meant: meshd join --server TOKEN\nif not: meshd token create, on a server host"}
	case !token.Server && c.Bool("server"):
		return nil, &usageError{"this token does not let a host join as a server", "make one that does, on a server host: meshd token create --server"}
	case time.Now().After(token.Expires):
		return nil, &failure{what: "the join token has expired", cause: errors.New("it was valid until " + token.Expires.UTC().Format(time.RFC3339)),
			effect: unchanged, next: "make another on a server host: meshd token create" + serverOption(token.Server)}
	}
	return token, nil
}

func serverOption(server bool) string {
	if server {
		return " --server"
	}
	return ""
}

func (s *setup) joinHost(text string) error {
	if err := refuseMember(s.agent.DataDir); err != nil {
		return err
	}
	if err := s.prepareHost(); err != nil {
		return err
	}
	_, err := s.joinAgent(text)
	return err
}

// joinServer makes this host a server, and an agent unless it is one already.
func (s *setup) joinServer(text string, token *jointoken.Token) error {
	member, err := agent.Joined(s.agent.DataDir)
	if err != nil && !errors.Is(err, agent.ErrNotJoined) {
		return err
	}
	if member != nil && member.TrustDomain != token.TrustDomain {
		return refuseMember(s.agent.DataDir)
	}
	if err := s.prepareHost(); err != nil {
		return err
	}
	if err := s.enterAsServer(text); err != nil {
		return err
	}
	if err := s.startServer(); err != nil {
		return err
	}
	if member != nil {
		return nil
	}
	return s.joinOwnAgent()
}

func (s *setup) enterAsServer(text string) error {
	logger, _ := newLogger(s.c, s.server.LogLevel)
	cfg, err := serverConfig(s.server, logger)
	if err != nil {
		return err
	}
	// It tries again for as long as it may, for a mesh that is electing a leader.
	ctx, cancel := context.WithTimeout(s.ctx, readyTimeout)
	defer cancel()
	if err := server.Join(ctx, cfg, text); err != nil {
		return &failure{what: "this host could not join as a server", cause: err, effect: "its server was not started"}
	}
	return nil
}

func (s *setup) printJoined(resolver string) error {
	m, err := agent.Joined(s.agent.DataDir)
	if err != nil {
		return err
	}
	t := &table{}
	t.row("mesh", "joined "+m.ClusterName+", with strict mutual TLS between all hosts")
	if s.c.Bool("server") {
		t.row("server", s.server.Name+" at "+s.server.Advertise)
	}
	t.row("agent", m.Name+" at "+m.Address)
	t.row("names", resolver)
	if err := t.write(s.c.App.Writer); err != nil {
		return err
	}
	fmt.Fprint(s.c.App.Writer, "\nTo add a service here:     meshd service add NAME --port PORT\n")
	return nil
}
