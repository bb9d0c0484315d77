package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/pki"
)

// corp is an authority made elsewhere: a root and an intermediate certificate,
// with a path length of their own unless it is -1.
func corp(t *testing.T, rootLen, length int) (root, intermediate *pki.Bundle) {
	t.Helper()
	rootKey, key := newKey(t), newKey(t)
	make := func(name string, length int, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: length, MaxPathLenZero: length == 0,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	top := make("Corp Root", rootLen, nil, rootKey.Public(), rootKey)
	below := make("Corp Mesh", length, top, key.Public(), rootKey)
	return &pki.Bundle{Chain: []*x509.Certificate{top}, Key: rootKey}, &pki.Bundle{Chain: []*x509.Certificate{below, top}, Key: key}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var vault = Vault{cluster, pki.NewSealingKey()}

// create makes an authority whose keys are sealed with vault.
func create(t *testing.T, own *pki.Bundle) *apiv1.Authority {
	t.Helper()
	a, err := vault.Create(domain, own, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.ModifyIndex = 7
	return a
}

// signs checks that what an authority signs is believed by those who trust each
// of these roots alone.
func signs(t *testing.T, what string, stored *apiv1.Authority, roots ...[]byte) {
	t.Helper()
	a, err := vault.Open(stored)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	_, signed, _ := sign(t, a, mesh.ServerIdentity(domain, "s1"), time.Hour)
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.VerifyPinned(state(t, signed.Chain), pki.Pin(root), domain); err != nil {
			t.Errorf("%s: to those who trust %s: %v", what, root.Subject, err)
		}
	}
	if pool, err := pki.Pool(Roots(stored)...); err != nil {
		t.Error(err)
	} else if _, err := pki.VerifyPeer(state(t, signed.Chain), pool, domain); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func TestRotation(t *testing.T) {
	root, intermediate := corp(t, -1, -1)
	_, issuing := corp(t, -1, 0)
	shortRoot, _ := corp(t, 1, 0)
	f := func(what string, from, to *pki.Bundle, crossed bool) {
		t.Helper()
		before := create(t, from)
		trust, err := vault.Rotate(before, to, "user 0", time.Now())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		signs(t, what+", trust", trust, before.RootCertificate)
		renew := Advance(trust, time.Now())
		old := [][]byte{renew.RootCertificate}
		if crossed {
			old = append(old, before.RootCertificate)
		}
		signs(t, what+", renew", renew, old...)
		retire := Advance(renew, time.Now())
		signs(t, what+", retire", retire, renew.RootCertificate)
		end := Advance(retire, time.Now())
		if crossSigned(renew) != crossed || crossSigned(retire) || len(retire.OtherRoots) > 0 || end.Rotation != nil ||
			end.Generation != before.Generation+1 || bytes.Equal(end.RootCertificate, before.RootCertificate) {
			t.Errorf("%s: ends with %v", what, end)
		}
		for _, phase := range []*apiv1.Authority{trust, renew, retire} {
			if phase.Rotation.StartedBy != "user 0" || phase.ModifyIndex != before.ModifyIndex {
				t.Errorf("%s: %v", what, phase.Rotation)
			}
		}
	}
	f("own to own", nil, nil, true)
	f("own to a root", nil, root, true)
	f("own to an intermediate", nil, intermediate, true)
	f("own to an issuing certificate", nil, issuing, true)
	f("a root to own", root, nil, true)
	f("a root that allows no more below", shortRoot, nil, false)
	f("an intermediate to own", intermediate, nil, false)
	f("an issuing certificate to own", issuing, nil, false)
}

func TestRotateRefuses(t *testing.T) {
	root, intermediate := corp(t, -1, -1)
	f := func(what string, a *apiv1.Authority, own *pki.Bundle, want string) {
		t.Helper()
		if _, err := vault.Rotate(a, own, "", time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	own := create(t, nil)
	under, err := vault.Rotate(own, nil, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f("one is under way", under, nil, "under way")
	f("the same root", create(t, root), root, "the mesh's already")
	f("the same intermediate", create(t, intermediate), intermediate, "the mesh's already")
	f("the root above the intermediate", create(t, intermediate), root, "the mesh's already")
	f("a key of another", own, &pki.Bundle{Chain: root.Chain, Key: newKey(t)}, "not that of the first certificate")
	if _, err := (Vault{cluster, pki.NewSealingKey()}).Rotate(own, nil, "", time.Now()); err == nil {
		t.Error("keys sealed by another were used")
	}
}

// A new intermediate under the present root needs nobody to learn anything.
func TestANewIntermediateIsInForceAtOnce(t *testing.T) {
	root, intermediate := corp(t, -1, -1)
	before := create(t, root)
	after, err := vault.Rotate(before, intermediate, "", time.Now())
	if err != nil || after.Rotation != nil || after.Generation != 1 || len(after.Intermediates) != 1 {
		t.Fatalf("%v, %v", after, err)
	}
	signs(t, "under the new one", after, before.RootCertificate)
}

func TestReissue(t *testing.T) {
	root, intermediate := corp(t, -1, -1)
	_, issuing := corp(t, -1, 0)
	f := func(what string, own *pki.Bundle, want error) {
		t.Helper()
		before := create(t, own)
		after, err := vault.Reissue(before, time.Now())
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil {
			return
		}
		if after.Generation != before.Generation+1 || bytes.Equal(after.IssuingCertificate, before.IssuingCertificate) {
			t.Errorf("%s: nothing new", what)
		}
		signs(t, what, after, before.RootCertificate)
	}
	f("own", nil, nil)
	f("root", root, nil)
	f("intermediate", intermediate, nil)
	f("issuing", issuing, ErrNoParentKey)
}

func TestInventory(t *testing.T) {
	root, intermediate := corp(t, -1, -1)
	f := func(what string, a *apiv1.Authority, want ...string) {
		t.Helper()
		var got []string
		for _, item := range Inventory(a) {
			if item.KeyHeld {
				item.Use += "*"
			}
			got = append(got, item.Use)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	f("own", create(t, nil), "root*", "issuing*")
	f("root", create(t, root), "root*", "issuing*")
	f("intermediate", create(t, intermediate), "root", "intermediate*", "issuing*")
	trust, err := vault.Rotate(create(t, nil), intermediate, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f("trust", trust, "root*", "issuing*", "next root")
	f("renew", Advance(trust, time.Now()), "root", "cross-signed root", "intermediate*", "issuing*", "old root")
	f("retire", Advance(Advance(trust, time.Now()), time.Now()), "root", "intermediate*", "issuing*")
}

func TestWaiting(t *testing.T) {
	_, issuing := corp(t, -1, 0)
	began := time.Now()
	rotation := func(from *pki.Bundle, phase int) *apiv1.Authority {
		a, err := vault.Rotate(create(t, from), nil, "", began)
		if err != nil {
			t.Fatal(err)
		}
		for range phase {
			a = Advance(a, began)
		}
		a.ModifyIndex = 100
		return a
	}
	const alive, lost, left = apiv1.NodeState_NODE_STATE_ALIVE, apiv1.NodeState_NODE_STATE_LOST, apiv1.NodeState_NODE_STATE_LEFT
	members := Members{Servers: []*apiv1.Server{{Id: "1", Name: "s1"}, {Id: "2", Name: "s2"}}, Nodes: []*apiv1.Node{
		{Name: "a", State: alive}, {Name: "b", State: alive}, {Name: "c", State: lost}, {Name: "d", State: left},
	}}
	f := func(what string, a *apiv1.Authority, hosts map[string]Standing, s2 Standing, after time.Duration, want ...string) {
		t.Helper()
		c := Census{Servers: map[string]Standing{"1": {100, 9}, "2": s2}, Hosts: hosts}
		if diff := cmp.Diff(want, Waiting(a, members, c, began.Add(after))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
	ready, behind, unrenewed := Standing{100, 1}, Standing{99, 1}, Standing{100, 0}
	trust, renew, retire, uncrossed := rotation(nil, 0), rotation(nil, 1), rotation(nil, 2), rotation(issuing, 0)
	f("nobody has answered", trust, nil, Standing{}, 0, "host a", "host b", "server s2")
	f("one is behind", trust, map[string]Standing{"a": ready, "b": behind}, ready, 0, "host b")
	f("generation does not matter yet", trust, map[string]Standing{"a": unrenewed, "b": unrenewed}, unrenewed, 0)
	f("the lost have no way to the new root", uncrossed, map[string]Standing{"a": ready, "b": ready}, ready, 0, "host c")
	f("until their certificates have ended", uncrossed, map[string]Standing{"a": ready, "b": ready}, ready, 24*time.Hour)
	f("but the alive are told", uncrossed, map[string]Standing{"a": ready, "b": behind}, ready, 24*time.Hour, "host b")
	f("the lost may hold old certificates", renew, map[string]Standing{"a": ready, "b": ready}, ready, 0, "host c")
	f("not yet renewed", renew, map[string]Standing{"a": ready, "b": unrenewed}, unrenewed, 0, "host b", "host c", "server s2")
	f("old certificates have ended", renew, map[string]Standing{"a": ready, "b": unrenewed}, unrenewed, 24*time.Hour+time.Second, "server s2")
	f("told of the end", retire, map[string]Standing{"a": ready, "b": behind}, ready, 0, "host b")
	f("none under way any more", retire, map[string]Standing{"a": ready, "b": ready, "c": ready}, ready, 0)
}

// What is kept and copied about has no key in the clear, in any phase.
func TestNoKeyInTheClear(t *testing.T) {
	_, issuing := corp(t, -1, 0)
	secret, err := pki.MarshalKey(issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := vault.Rotate(create(t, nil), issuing, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		stored, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		// The number itself is in the middle of the encoding.
		if bytes.Contains(stored, secret) || bytes.Contains(stored, secret[36:68]) {
			t.Error("the key is there in the clear")
		}
		a = Advance(a, time.Now())
	}
}
