package server_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/internal/pki"
)

// A host that was taken over gets no identity but its own and those of the
// services that it runs and may run. Each attempt is refused, and on record.
func TestAStolenHostGetsNoOtherIdentity(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		thief, victim := m.NewFakeAgent("thief"), m.JoinFakeAgent("victim")
		if err := thief.EnrollWith(m.CreateToken(&apiv1.CreateTokenRequest{AllowedServices: []string{"orders"}}), nil); err != nil {
			t.Fatal(err)
		}
		mustRegister(t, victim.Connect(s), 1, instance("billing", 8080))
		mustRegister(t, thief.Connect(s), 1, instance("orders", 8080))
		f := func(service string) {
			t.Helper()
			if chain, err := thief.Sign(s, service); err == nil {
				leaf, _ := x509.ParseCertificate(chain[0])
				t.Errorf("asking for %q gave a certificate of %v", service, leaf.URIs)
			}
		}
		f("billing")
		f("../host/victim")
		f("../server/s1")
		f("*")
		f("orders\x00billing")
		f("orders/../billing")
		f(strings.Repeat("x", 1000))

		chain, err := thief.Sign(s, "orders")
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		if id, err := pki.LeafIdentity(leaf); err != nil || id.Name != "orders" {
			t.Errorf("its own service's certificate is of %v, %v", id, err)
		}

		audit, err := s.Admin().Audit(t.Context(), &apiv1.AuditRequest{Action: "certificate sign"})
		if err != nil {
			t.Fatal(err)
		}
		if len(audit.Records) != 1 || audit.Records[0].Actor != "host/thief" || audit.Records[0].Objects[0] != "svc/billing" ||
			!strings.Contains(audit.Records[0].Refusal, "no instance of service") {
			t.Errorf("on record is %v, want the first refusal of this minute", audit.Records)
		}
	})
}

// A host that asks all day gets no more than it can have any use of.
func TestCertificatesAreRationed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		s := m.Servers[0]
		greedy, other := m.JoinFakeAgent("greedy"), m.JoinFakeAgent("other")
		client := apiv1.NewControlClient(greedy.Dial(s))
		had := 0
		for range 100 {
			_, err := client.Sign(t.Context(), &apiv1.SignRequest{Requests: []*apiv1.CertificateRequest{{Csr: greedy.CSR()}}})
			if err == nil {
				had++
			} else if status.Code(err) != codes.ResourceExhausted {
				t.Fatal(err)
			}
		}
		if want := 12; had != want {
			t.Errorf("%d certificates were had at once, want %d", had, want)
		}
		if _, err := other.Sign(s, ""); err != nil {
			t.Errorf("another host has to wait: %v", err)
		}
		many := &apiv1.SignRequest{}
		for range 1002 {
			many.Requests = append(many.Requests, &apiv1.CertificateRequest{})
		}
		if _, err := client.Sign(t.Context(), many); status.Code(err) != codes.InvalidArgument {
			t.Error(fmt.Errorf("a thousand at once: %w", err))
		}
	})
}
