package cli

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/meshd/meshd/internal/pki"
)

// readBundle reads an authority that was made elsewhere from the files that two
// options name, nil when they name none.
func readBundle(c *cli.Context, certOption, keyOption string) (*pki.Bundle, error) {
	certificates, key, err := readPEM(c, certOption, keyOption)
	if err != nil || certificates == nil {
		return nil, err
	}
	defer clear(key)
	own, err := pki.ParseBundle(certificates, key)
	if err != nil {
		return nil, &failure{what: "the authority in " + c.String(certOption) + " and " + c.String(keyOption) + " cannot be taken", cause: err, effect: unchanged}
	}
	return own, nil
}

// readPEM never takes a key that others could have read.
func readPEM(c *cli.Context, certOption, keyOption string) (certificates, key []byte, err error) {
	certFile, keyFile := c.String(certOption), c.String(keyOption)
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil, nil
	case certFile == "" || keyFile == "":
		return nil, nil, usagef(c, "--%s and --%s go together: the certificates, and the private key of the first of them", certOption, keyOption)
	}
	if certificates, err = os.ReadFile(certFile); err != nil {
		return nil, nil, unread(err)
	}
	if key, err = pki.ReadSecret(keyFile); err != nil {
		return nil, nil, unread(err)
	}
	return certificates, key, nil
}

func unread(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path
	}
	return &failure{what: "the authority's files cannot be read", cause: err, effect: unchanged}
}
