package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/codes"

	"github.com/meshd/meshd/api/client"
)

// remoteFlags name a server elsewhere. They stand before the command where it has
// an option of the same name. The token itself is no option: what a process is
// called with anybody on the host can read.
func remoteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", EnvVars: []string{client.ServerEnv}, Usage: "ask the server at `HOST:PORT` instead, with an access token (of the environment variable " + client.TokenEnv + ", or --token-file)"},
		&cli.StringFlag{Name: "token-file", Usage: "read the access token from `FILE`"},
		&cli.StringFlag{Name: "ca", Usage: "know the server by the root certificate (PEM) in `FILE` instead of by the token"},
	}
}

// global gives an option that stands before the command, though the command may
// have one of the same name.
func global(c *cli.Context, name string) string {
	lineage := c.Lineage()
	return lineage[max(len(lineage)-2, 0)].String(name)
}

func withRemote(ctx context.Context, c *cli.Context, server string, call func(context.Context, *client.Client) error) error {
	remote := client.Remote{Address: server}
	var err error
	if remote.Token, err = remoteToken(c); err != nil {
		return err
	}
	if path := global(c, "ca"); path != "" {
		if remote.Roots, err = os.ReadFile(path); err != nil {
			return fileFailure(path, err)
		}
	}
	cl, err := client.DialRemote(remote)
	if err != nil {
		return &failure{what: "cannot ask the server at " + server, cause: err, next: "see how to name a server and a token: meshd --help"}
	}
	defer cl.Close()
	return call(ctx, cl)
}

// remoteToken reads the access token, from a file that only its owner may read.
func remoteToken(c *cli.Context) (string, error) {
	path := global(c, "token-file")
	if path == "" {
		if token := os.Getenv(client.TokenEnv); token != "" {
			return token, nil
		}
		return "", &failure{what: "there is no access token to show to the server",
			next: "make one on a server host: meshd access create --role viewer --out FILE\nthen name it: --token-file FILE, or put it into the environment variable " + client.TokenEnv}
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fileFailure(path, err)
	}
	if loose := info.Mode().Perm() & 0o077; loose != 0 && info.Mode().IsRegular() {
		return "", &failure{what: "the access token in " + path + " can be read by others", cause: fmt.Errorf("its mode is %v", info.Mode().Perm()), next: "make it yours alone: chmod 600 " + path}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fileFailure(path, err)
	}
	return string(data), nil
}

// remoteFailure says what to do about a refusal when a token was shown: being
// root on this host is of no use then.
func remoteFailure(c *cli.Context, err error) error {
	var f *failure
	if global(c, "server") == "" || !errors.As(err, &f) {
		return err
	}
	switch f.code {
	case codes.PermissionDenied:
		f.next = "have an administrator make a token of that role: meshd access create --role ROLE --out FILE"
	case codes.Unauthenticated:
		f.next = "have an administrator make a token: meshd access create --role viewer --out FILE"
	case codes.Unavailable:
		f.next = "see whether its port is open to this host, or name another server: --server HOST:PORT"
	}
	return f
}

// outFile makes a file that its owner alone may read, and must not be there yet.
func outFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, &failure{what: "the file " + path + " is there already", effect: unchanged, next: "name one that is not: --out FILE"}
	}
	if err != nil {
		return nil, &failure{what: "cannot write the access token to " + path, cause: err, effect: unchanged, next: "name another file: --out FILE"}
	}
	return f, nil
}
