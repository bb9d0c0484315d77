package meshtest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server"
)

// A load calls a service all the time and remembers what failed.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	calls    int
	problems []string
}

// startLoad has a host call, both with a connection for each call and with one
// that stays.
func startLoad(t *testing.T, from *meshtest.Agent, url string) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	t.Cleanup(func() { stop(); l.running.Wait() })
	kept := &http.Client{Transport: &http.Transport{DialContext: from.Dial}}
	for _, c := range []*http.Client{from.Client(), kept} {
		l.running.Go(func() {
			defer c.CloseIdleConnections()
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(300 * time.Millisecond):
					l.note(call(c, url))
				}
			}
		})
	}
	return l
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.problems = append(l.problems, fmt.Sprintf("%s: %v", time.Now().Format(time.TimeOnly), err))
	}
}

func call(c *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := c.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s", response.Status, response.Header.Get("meshd-error"))
	}
	return nil
}

// end checks that no call has failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	if len(l.problems) > 0 || l.calls < 100 {
		t.Errorf("%d of %d calls failed, the first %s", len(l.problems), l.calls, l.problems[:min(len(l.problems), 1)])
	}
}

// shown is the authority as a server shows it.
func shown(m *meshtest.Mesh) (reply *apiv1.ShowAuthorityReply) {
	m.T.Helper()
	m.WaitFor("a server to show the authority", func() bool {
		for _, s := range m.Servers {
			if !s.Running() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			r, err := s.Admin().ShowAuthority(ctx, &apiv1.ShowAuthorityRequest{})
			cancel()
			if err == nil {
				reply = r
				return true
			}
		}
		return false
	})
	return reply
}

func rotate(t *testing.T, s *meshtest.Server, r *apiv1.RotateAuthorityRequest) *apiv1.RotateAuthorityReply {
	t.Helper()
	reply, err := s.Admin().RotateAuthority(t.Context(), r)
	if err != nil {
		t.Fatalf("rotating: %v", err)
	}
	return reply
}

// reach waits until a rotation is in a phase; PHASE_UNSPECIFIED is its end.
func reach(m *meshtest.Mesh, phase apiv1.Rotation_Phase) *apiv1.ShowAuthorityReply {
	m.T.Helper()
	var last *apiv1.ShowAuthorityReply
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if last = shown(m); last.GetRotation().GetPhase() == phase {
			return last
		}
	}
	m.T.Fatalf("waited in vain for %v: %v waits for %v", phase, last.GetRotation().GetPhase(), last.GetRotation().GetWaitingFor())
	return nil
}

func TestRootIsRotatedUnderLoad(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		l := startLoad(t, h1, "http://orders.mesh/")
		before := shown(m)
		rotate(t, m.Follower(), &apiv1.RotateAuthorityRequest{})
		reach(m, apiv1.Rotation_PHASE_RENEW)
		after := reach(m, apiv1.Rotation_PHASE_UNSPECIFIED)
		time.Sleep(5 * time.Second)
		l.end(t)
		if len(after.Certificates) != 2 || after.Certificates[0].Pin == before.Certificates[0].Pin || after.Generation != 1 {
			t.Errorf("after the rotation there are %v", after)
		}
	})
}

// Whoever leads when a phase begins is gone at once: the next leader goes on. It
// is back for the next phase, for no server may miss one.
func TestRotationGoesOnWhenLeadersDie(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		l := startLoad(t, h1, "http://orders.mesh/")
		rotate(t, m.Leader(), &apiv1.RotateAuthorityRequest{})
		for _, phase := range []apiv1.Rotation_Phase{apiv1.Rotation_PHASE_TRUST, apiv1.Rotation_PHASE_RENEW, apiv1.Rotation_PHASE_RETIRE} {
			reach(m, phase)
			leader := m.Leader()
			leader.Crash()
			time.Sleep(4 * time.Second)
			leader.Restart()
			m.Leader()
		}
		after := reach(m, apiv1.Rotation_PHASE_UNSPECIFIED)
		time.Sleep(5 * time.Second)
		l.end(t)
		if len(after.Certificates) != 2 || after.Generation != 1 {
			t.Errorf("after the rotation there are %v", after)
		}
	})
}

func TestIssuingCertificateIsRotatedUnderLoad(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		l := startLoad(t, h1, "http://orders.mesh/")
		before := shown(m)
		if reply := rotate(t, m.Follower(), &apiv1.RotateAuthorityRequest{IssuingOnly: true}); reply.Rotation != nil {
			t.Errorf("a new issuing certificate takes a rotation: %v", reply)
		}
		time.Sleep(time.Minute)
		l.end(t)
		after := shown(m)
		if after.Certificates[0].Fingerprint != before.Certificates[0].Fingerprint || after.Certificates[1].Fingerprint == before.Certificates[1].Fingerprint {
			t.Errorf("before %v\nafter %v", before, after)
		}
		renewed(t, m, after.Generation)
	})
}

// renewed checks that all agents have renewed all of their certificates.
func renewed(t *testing.T, m *meshtest.Mesh, generation uint64) {
	t.Helper()
	reply, err := m.Leader().Admin().Status(t.Context(), &apiv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range reply.Agents {
		if a.AuthorityGeneration != generation {
			t.Errorf("%s has certificates of generation %d, want %d", a.Node, a.AuthorityGeneration, generation)
		}
	}
}

// The old root is refused everywhere when it is retired, by connections that are
// open too; hosts and tokens that know only the old one come along until then.
func TestTheOldRootIsRetired(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		h2.ServeEcho(5000, "")
		h2.Add(&apiv1.Declaration{Name: "echo", Port: 5000, Protocol: apiv1.Protocol_PROTOCOL_TCP})
		m.WaitFor("h1 to know echo", func() bool { return len(lookup(t, h1, "echo.service.mesh.")) == 1 })
		old := m.JoinFakeAgent("old")
		many := m.CreateToken(&apiv1.CreateTokenRequest{Reusable: true, Ttl: durationpb.New(24 * time.Hour)})
		held := dialEcho(t, h1)
		held.say(t, "before")

		rotate(t, m.Leader(), &apiv1.RotateAuthorityRequest{})
		reach(m, apiv1.Rotation_PHASE_RENEW)
		held.say(t, "between")
		for _, name := range []string{"late1", "late2"} {
			if err := m.NewFakeAgent(name).EnrollWith(many, nil); err != nil {
				t.Errorf("%s joins with a token that pins the old root: %v", name, err)
			}
		}
		if err := m.NewFakeAgent("new").EnrollWith(m.CreateToken(&apiv1.CreateTokenRequest{}), nil); err != nil {
			t.Errorf("a host joins with a new token: %v", err)
		}
		stream := old.Dial(m.Leader())
		if _, err := apiv1.NewAdminClient(stream).Status(t.Context(), &apiv1.StatusRequest{}); err != nil {
			t.Errorf("a host that knows the old root alone: %v", err)
		}

		reach(m, apiv1.Rotation_PHASE_RETIRE)
		time.Sleep(5 * time.Second)
		held.mustBeCut(t)
		dialEcho(t, h1).say(t, "after")
		if _, err := apiv1.NewAdminClient(stream).Status(t.Context(), &apiv1.StatusRequest{}); err == nil {
			t.Error("a host with a certificate of the old root was answered")
		}
		if err := m.NewFakeAgent("late3").EnrollWith(many, nil); err == nil || !strings.Contains(err.Error(), "a new token is needed") {
			t.Errorf("a token that pins the retired root: %v", err)
		}
		reach(m, apiv1.Rotation_PHASE_UNSPECIFIED)
	})
}

// An echoConn is a TCP connection through the mesh.
type echoConn struct{ net.Conn }

func dialEcho(t *testing.T, from *meshtest.Agent) echoConn {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp", "echo.mesh:5000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return echoConn{c}
}

func (c echoConn) say(t *testing.T, text string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%s: %q, %v", text, got, err)
	}
}

func (c echoConn) mustBeCut(t *testing.T) {
	t.Helper()
	c.SetDeadline(time.Now().Add(time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection under the old root lives on: read %d, %v", n, err)
	}
}

// A company's authority is taken at the beginning and exchanged for others; none
// of its keys is in what servers keep or hand out.
func TestAnAuthorityFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t)
		first, second := outsideAuthority(t, -1), outsideAuthority(t, 0)
		own, err := pki.ParseBundle(first.certificates, first.key)
		if err != nil {
			t.Fatal(err)
		}
		m.Init = server.InitOptions{TrustDomain: "corp.example", Authority: own}
		m.StartServers(1)
		h1, h2 := m.StartAgent("h1"), m.StartAgent("h2")
		orders(h2)
		known(m, h1, 1)
		l := startLoad(t, h1, "http://orders.mesh/")
		uses(t, shown(m), "root", "intermediate", "issuing")
		rotate(t, m.Leader(), &apiv1.RotateAuthorityRequest{CertificatesPem: second.certificates, KeyPem: second.key})
		uses(t, reach(m, apiv1.Rotation_PHASE_UNSPECIFIED), "root", "issuing")
		time.Sleep(5 * time.Second)
		l.end(t)
		_, err = m.Leader().Admin().RotateAuthority(t.Context(), &apiv1.RotateAuthorityRequest{IssuingOnly: true})
		if err == nil || !strings.Contains(err.Error(), "meshd ca rotate --cert") {
			t.Errorf("an issuing certificate under an authority that is kept elsewhere: %v", err)
		}
		_, err = m.Leader().Admin().RotateAuthority(t.Context(), &apiv1.RotateAuthorityRequest{CertificatesPem: second.certificates, KeyPem: first.key})
		if err == nil {
			t.Error("a certificate was taken with another's key")
		}
		holdsNone(t, m, first.secret, second.secret)
	})
}

func uses(t *testing.T, r *apiv1.ShowAuthorityReply, want ...string) {
	t.Helper()
	var got []string
	for _, c := range r.Certificates {
		got = append(got, c.Use)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("certificates (-want +got)\n%s", diff)
	}
}

// holdsNone looks for secrets in all that the first server has on its disk, and in
// a snapshot.
func holdsNone(t *testing.T, m *meshtest.Mesh, secrets ...[]byte) {
	t.Helper()
	clear := func(where string, b []byte) {
		for _, secret := range secrets {
			if bytes.Contains(b, secret) {
				t.Errorf("%s has a private key of the authority in the clear", where)
			}
		}
	}
	stream, err := m.Leader().Admin().SaveSnapshot(t.Context(), &apiv1.SaveSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var snapshot []byte
	for chunk, err := stream.Recv(); err != io.EOF; chunk, err = stream.Recv() {
		if err != nil {
			t.Fatal(err)
		}
		snapshot = append(snapshot, chunk.Data...)
	}
	if len(snapshot) < 1000 {
		t.Errorf("the snapshot has %d bytes", len(snapshot))
	}
	clear("a snapshot", snapshot)
	files := 0
	err = filepath.WalkDir(m.Dir("s1", "server"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		clear(path, b)
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files were looked at, %v", files, err)
	}
}

// An outside is an authority as a company makes it, in PEM.
type outside struct{ certificates, key, secret []byte }

// outsideAuthority makes an intermediate certificate of a path length under a
// root.
func outsideAuthority(t *testing.T, pathLen int) (o outside) {
	t.Helper()
	rootKey, err1 := pki.NewKey()
	key, err2 := pki.NewKey()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp Root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1,
	}
	below := *root
	below.SerialNumber, below.Subject = big.NewInt(2), pkix.Name{CommonName: "Corp Mesh"}
	below.MaxPathLen, below.MaxPathLenZero = pathLen, pathLen == 0
	for _, c := range []*x509.Certificate{&below, root} {
		public := any(&key.PublicKey)
		if c == root {
			public = &rootKey.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, root, public, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		o.certificates = append(o.certificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := pki.MarshalKey(key)
	if err != nil {
		t.Fatal(err)
	}
	o.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if o.secret, err = key.Bytes(); err != nil {
		t.Fatal(err)
	}
	return o
}
