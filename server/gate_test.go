package server_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
	"github.com/meshd/meshd/store/command"
)

// While a server does not know what a change needs, whoever asks for it is told
// which, wherever it was asked for, and nothing is done.
func TestOldServersHoldUpWhatTheyDoNotKnow(t *testing.T) {
	old := &versions{level: map[string]uint32{"s1": 1, "s2": 1, "s3": 1}}
	bubbleWith(t, 3, old.configure, func(t *testing.T, m *meshtest.Mesh) {
		s3 := m.Servers[2]
		for _, s := range m.Servers[:2] {
			s.Stop()
			old.set(s.Name, command.MaxLevel)
			s.Restart()
			<-s.Ready()
			m.WaitFor("the others to know", func() bool { return raftPeer(t, m.Leader(), s.Name).FeatureLevel == command.MaxLevel })
		}
		apply(t, s3, service("web"))
		for _, s := range m.Servers {
			_, err := s.Admin().CreateAccessToken(t.Context(), &apiv1.CreateAccessTokenRequest{Role: apiv1.Role_ROLE_VIEWER})
			if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "server s3 runs") || !strings.Contains(err.Error(), "update it first") {
				t.Errorf("an access token by %s gave %v", s.Name, err)
			}
			_, err = s.Admin().Delete(t.Context(), &apiv1.DeleteRequest{Kind: "service", Name: "web", Version: 1})
			if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "not all servers know") {
				t.Errorf("deleting a version by %s gave %v", s.Name, err)
			}
			reply, err := s.Admin().GetResources(t.Context(), &apiv1.GetResourcesRequest{Kind: "service", Name: "web"})
			if err != nil || len(reply.Resources) != 1 {
				t.Errorf("what was not deleted by %s: %v, %v", s.Name, reply, err)
			}
		}
	})
}
