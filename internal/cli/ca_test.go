package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func (m *fakeMesh) ShowAuthority(_ context.Context, r *apiv1.ShowAuthorityRequest) (*apiv1.ShowAuthorityReply, error) {
	return m.authority, m.note(r)
}

func (m *fakeMesh) RotateAuthority(_ context.Context, r *apiv1.RotateAuthorityRequest) (*apiv1.RotateAuthorityReply, error) {
	return m.rotated, m.note(r)
}

func TestCAShow(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	m.authority = &apiv1.ShowAuthorityReply{TrustDomain: "corp.example", Generation: 3, Certificates: []*apiv1.CertificateInfo{
		{Use: "root", Subject: "CN=Corp", NotAfterUnix: 1_900_000_000, Pin: "abc"},
		{Use: "issuing", Subject: "CN=Mesh", NotAfterUnix: 1_800_000_000, Pin: "def", KeyHeld: true},
	}}
	m.want(t, `
trust domain  corp.example
generation    3
rotation      none under way

CERTIFICATE  SUBJECT  EXPIRES     KEY          PIN
root         CN=Corp  2030-03-17  elsewhere    abc
issuing      CN=Mesh  2027-01-15  in the mesh  def
`[1:], "ca", "show")
	m.authority = &apiv1.ShowAuthorityReply{Rotation: &apiv1.RotationStatus{
		Phase: apiv1.Rotation_PHASE_RENEW, StartedUnix: time.Now().Unix(), StartedBy: "user 0",
		WaitingFor: []string{"host vm2", "server s3"}, DeadlineUnix: 1_900_000_000,
	}}
	stdout, _, exit := m.command(t, "ca", "show")
	for _, want := range []string{"step 2 of 3", "by user 0", "host vm2, server s3", "until 2030-03-17T"} {
		if exit != 0 || !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	stdout, _, exit = m.command(t, "ca", "show", "-o", "json")
	if exit != 0 || !strings.Contains(stdout, `"waiting_for": [`) {
		t.Errorf("exit %d: %s", exit, stdout)
	}
}

func TestCARotate(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	f := func(reply *apiv1.RotateAuthorityReply, want string, asked func(*apiv1.RotateAuthorityRequest) bool, args ...string) {
		t.Helper()
		m.rotated = reply
		stdout, stderr, exit := m.command(t, append([]string{"ca", "rotate"}, args...)...)
		if exit != 0 || !strings.Contains(stdout, want) || !asked(m.last().(*apiv1.RotateAuthorityRequest)) {
			t.Errorf("%q: exit %d, asked for %v\n%s%s", args, exit, m.last(), stdout, stderr)
		}
	}
	begun := &apiv1.RotateAuthorityReply{Rotation: &apiv1.RotationStatus{Phase: apiv1.Rotation_PHASE_TRUST}}
	f(begun, "see how far it is: meshd ca show", func(r *apiv1.RotateAuthorityRequest) bool {
		return !r.Force && !r.IssuingOnly && len(r.KeyPem) == 0
	})
	f(&apiv1.RotateAuthorityReply{}, "the new certificate is in force", func(r *apiv1.RotateAuthorityRequest) bool { return r.IssuingOnly }, "--issuing")
	begun.LeftBehind = []string{"host vm2"}
	f(begun, "host vm2: those", func(r *apiv1.RotateAuthorityRequest) bool { return r.Force }, "--force")
	f(&apiv1.RotateAuthorityReply{}, "complete", func(r *apiv1.RotateAuthorityRequest) bool { return r.Force }, "--force")
	cert, key := writeAuthority(t)
	f(begun, "step 1 of 3", func(r *apiv1.RotateAuthorityRequest) bool {
		return strings.Contains(string(r.CertificatesPem), "CERTIFICATE") && strings.Contains(string(r.KeyPem), "PRIVATE KEY")
	}, "--cert", cert, "--key", key)
}

func TestCARotateRefuses(t *testing.T) {
	m := newFakeMesh(t, serverSocket)
	cert, key := writeAuthority(t)
	f := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, exit := m.command(t, append([]string{"ca", "rotate"}, args...)...)
		if exit == 0 || !strings.Contains(stderr, want) || m.last() != nil {
			t.Errorf("%q: exit %d, want %q\n%s%s", args, exit, want, stdout, stderr)
		}
	}
	f("go together", "--cert", cert)
	f("go together", "--key", key)
	f("go each alone", "--issuing", "--force")
	f("go each alone", "--issuing", "--cert", cert, "--key", key)
	f("no such file", "--cert", cert+".missing", "--key", key)
	f("no such file", "--cert", cert, "--key", key+".missing")
	f("something else than certificates", "--cert", key, "--key", key)
	f("no private key", "--cert", cert, "--key", writeSecret(t, "nothing"))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	f("chmod 600 "+key, "--cert", cert, "--key", key)
}

func writeSecret(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeAuthority makes a root as a company would have one.
func writeAuthority(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeSecret(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		writeSecret(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}
