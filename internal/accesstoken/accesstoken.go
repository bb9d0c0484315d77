// Package accesstoken reads and writes the text of an access token, which holds
// all that a client needs to be sure of a mesh's servers and to be let at their
// API.
package accesstoken

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/meshd/meshd/internal/mesh"
)

const (
	prefix  = "meshd-access."
	version = 1
	maxText = 1024
	maxID   = 64

	// SecretSize is the length of a token's secret in bytes.
	SecretSize = 16
)

// A Token lets its bearer use the API of a mesh from anywhere. It is a secret.
type Token struct {
	// ID tells tokens apart and is no secret.
	ID     string
	Secret [SecretSize]byte
	// Pin is the SHA-256 of the public key of the mesh's root certificate.
	Pin         [sha256.Size]byte
	TrustDomain string
}

type body struct {
	Version     int    `json:"v"`
	ID          string `json:"id"`
	Secret      []byte `json:"secret"`
	Pin         []byte `json:"pin"`
	TrustDomain string `json:"td"`
}

// New makes a token with a secret of its own.
func New(id, trustDomain string, pin [sha256.Size]byte) *Token {
	t := &Token{ID: id, TrustDomain: trustDomain, Pin: pin}
	rand.Read(t.Secret[:]) // never fails
	return t
}

// Encode gives the token as people keep it.
func (t *Token) Encode() string {
	text, err := json.Marshal(body{version, t.ID, t.Secret[:], t.Pin[:], t.TrustDomain})
	if err != nil {
		panic("an access token of plain values did not encode: " + err.Error())
	}
	return prefix + base64.RawURLEncoding.EncodeToString(text)
}

// SecretHash is what servers keep of the token.
func (t *Token) SecretHash() []byte {
	sum := sha256.Sum256(t.Secret[:])
	return sum[:]
}

// LogValue keeps the secret out of logs.
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// String keeps the secret out of messages; Encode gives the text.
func (t *Token) String() string { return "access token " + t.ID }

// Parse reads what Encode wrote. Its errors never quote the text.
func Parse(text string) (*Token, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	switch {
	case !ok && rest == "":
		return nil, errors.New("the access token is empty: make one on a server host with: meshd access create")
	case !ok:
		return nil, fmt.Errorf("this is no access token: one begins with %q and is made on a server host with: meshd access create", prefix)
	case len(rest) > maxText:
		return nil, fmt.Errorf("the access token is %d characters long, and none is longer than %d: copy it alone", len(rest), maxText)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || strings.ContainsAny(rest, "\r\n") {
		return nil, errors.New("the access token is damaged: copy all of it, as one line")
	}
	b, err := decode(raw)
	if err != nil {
		return nil, err
	}
	return b.token()
}

func decode(raw []byte) (*body, error) {
	var b body
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return nil, errors.New("the access token is damaged, or made by a newer version of meshd: copy all of it, or upgrade")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the access token is damaged: something follows its end")
	}
	if b.Version != version {
		return nil, fmt.Errorf("the access token is of version %d, and this meshd knows version %d: install the version that the servers run", b.Version, version)
	}
	return &b, nil
}

func (b *body) token() (*Token, error) {
	t := &Token{ID: b.ID, TrustDomain: b.TrustDomain}
	if copy(t.Pin[:], b.Pin) != len(t.Pin) || len(b.Pin) != len(t.Pin) {
		return nil, errors.New("the access token is damaged: its pin has the wrong length")
	}
	if copy(t.Secret[:], b.Secret) != SecretSize || len(b.Secret) != SecretSize {
		return nil, errors.New("the access token is damaged: its secret has the wrong length")
	}
	if t.ID == "" || len(t.ID) > maxID {
		return nil, fmt.Errorf("the access token is damaged: its id is not 1 to %d characters long", maxID)
	}
	if err := mesh.CheckTrustDomain(t.TrustDomain); err != nil {
		return nil, errors.New("the access token is damaged: its trust domain is none")
	}
	return t, nil
}
