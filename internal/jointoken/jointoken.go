// Package jointoken reads and writes the text of a join token, which holds all
// that a host needs to find a mesh, to recognise it and to be let in.
package jointoken

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/meshd/meshd/internal/mesh"
)

const (
	prefix  = "mesh1."
	version = 1
	maxText = 8192
	maxAddr = 64
	maxID   = 64

	// SecretSize is the length of a token's secret in bytes.
	SecretSize = 16
)

// A Token lets one host (or, when reusable, several) join a mesh. It is a
// secret: whoever has its text can join.
type Token struct {
	// Addresses are the TLS ports of servers, host:port.
	Addresses []string
	// Pin is the SHA-256 of the public key of the mesh's root certificate.
	Pin [sha256.Size]byte
	// ID tells tokens apart and is no secret.
	ID     string
	Secret [SecretSize]byte

	TrustDomain string
	Expires     time.Time // to the second
	// Server says that the holder joins as a server, not as a host.
	Server bool
}

type body struct {
	Version     int      `json:"v"`
	Addresses   []string `json:"addrs"`
	Pin         []byte   `json:"pin"`
	ID          string   `json:"id"`
	Secret      []byte   `json:"secret"`
	TrustDomain string   `json:"td"`
	Expires     int64    `json:"exp"`
	Server      bool     `json:"srv,omitempty"`
}

// Encode gives the token as people pass it on.
func (t *Token) Encode() string {
	text, err := json.Marshal(body{
		version, t.Addresses, t.Pin[:], t.ID, t.Secret[:], t.TrustDomain, t.Expires.Unix(), t.Server,
	})
	if err != nil {
		panic("a join token of plain values did not encode: " + err.Error())
	}
	return prefix + base64.RawURLEncoding.EncodeToString(text)
}

// LogValue keeps the secret out of logs.
func (t *Token) LogValue() slog.Value { return slog.StringValue("join token " + t.ID) }

// String keeps the secret out of messages; Encode gives the text.
func (t *Token) String() string { return "join token " + t.ID }

// SecretHash is what servers keep of a secret.
func SecretHash(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:]
}

// Parse reads what Encode wrote. It refuses anything else, saying what to do;
// that a token has expired is for the caller to see.
func Parse(text string) (*Token, error) {
	text = strings.TrimSpace(text)
	raw, err := decodeText(text)
	if err != nil {
		return nil, err
	}
	b, err := decodeBody(raw)
	if err != nil {
		return nil, err
	}
	return b.token()
}

func decodeText(text string) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return nil, notAToken(text)
	}
	if len(text) > maxText {
		return nil, fmt.Errorf("the join token is %d characters long, and none is longer than %d: copy it alone", len(text), maxText)
	}
	if i := strings.IndexAny(rest, " \t\r\n"); i >= 0 {
		return nil, fmt.Errorf("the join token has a space or line break after character %d: copy it as one line", len(prefix)+i)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return nil, errors.New("the join token is damaged: copy all of it, or make a new one with: meshd token create")
	}
	return raw, nil
}

func notAToken(text string) error {
	switch {
	case text == "":
		return errors.New("the join token is empty: make one on a server host with: meshd token create")
	case strings.HasPrefix(text, "mesh") && strings.Contains(text, "."):
		return errors.New("the join token was made by another version of meshd: install the version that the servers run")
	default:
		return fmt.Errorf("this is no join token: one begins with %q and is made on a server host with: meshd token create", prefix)
	}
}

func decodeBody(raw []byte) (*body, error) {
	var b body
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, errors.New("the join token is damaged, or made by a newer version of meshd: copy all of it, or upgrade")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the join token is damaged: something follows its end")
	}
	if b.Version != version {
		return nil, fmt.Errorf("the join token is of version %d, and this meshd knows version %d: install the version that the servers run", b.Version, version)
	}
	return &b, nil
}

func (b *body) token() (*Token, error) {
	t := &Token{
		Addresses: b.Addresses, ID: b.ID, TrustDomain: b.TrustDomain,
		Expires: time.Unix(b.Expires, 0), Server: b.Server,
	}
	if copy(t.Pin[:], b.Pin) != len(t.Pin) || len(b.Pin) != len(t.Pin) {
		return nil, errors.New("the join token is damaged: its pin has the wrong length")
	}
	if copy(t.Secret[:], b.Secret) != SecretSize || len(b.Secret) != SecretSize {
		return nil, errors.New("the join token is damaged: its secret has the wrong length")
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("the join token is damaged: %w", err)
	}
	return t, nil
}

func (t *Token) check() error {
	if t.ID == "" || len(t.ID) > maxID {
		return fmt.Errorf("its id is not 1 to %d characters long", maxID)
	}
	if err := mesh.CheckTrustDomain(t.TrustDomain); err != nil {
		return err
	}
	if len(t.Addresses) == 0 || len(t.Addresses) > maxAddr {
		return fmt.Errorf("it names %d servers, not 1 to %d", len(t.Addresses), maxAddr)
	}
	for _, address := range t.Addresses {
		if err := checkAddress(address); err != nil {
			return err
		}
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("server address %q is not host:port", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("server address %q has no port from 1 to 65535", address)
	}
	return nil
}
