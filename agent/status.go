package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/meshd/meshd/agent/control"
	"github.com/meshd/meshd/agent/local"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/version"
)

// Status is how the host stands.
func (a *Agent) Status() *apiv1.LocalStatusReply {
	host, now, stream := a.local.State(), a.built(), a.control.Status()
	s := &apiv1.LocalStatusReply{
		Node: a.member.Name, NodeId: a.member.NodeID, ClusterId: a.member.ClusterID, TrustDomain: a.member.TrustDomain,
		Version: version.Version(), Server: stream.Server, SliceVersion: now.slice.Version,
		ServicesKnown: uint32(len(now.slice.Services)), ServicesNamed: uint32(len(now.slice.Index)), Uses: a.interest.Wanted(),
	}
	for _, service := range host.Services {
		s.Services = append(s.Services, localService(service))
	}
	if stream.Server == "" {
		s.Problems = append(s.Problems, fmt.Sprintf("no server is connected, and this host goes by what it knew last: %v", orStarting(stream.Err)))
	}
	if refused := new(control.RefusedError); errors.As(a.control.Registered(), &refused) {
		s.Problems = append(s.Problems, refused.Error())
	}
	if err := a.control.Clock(); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, c := range a.certs.States() {
		if !c.NotAfter.IsZero() {
			s.Certificates = append(s.Certificates, &apiv1.LocalCertificate{Identity: c.Identity, NotAfterUnix: c.NotAfter.Unix()})
		}
		if c.Problem != "" {
			s.Problems = append(s.Problems, fmt.Sprintf("certificate of %s: %s", c.Identity, c.Problem))
		}
	}
	s.Problems = append(append(s.Problems, host.Problems...), now.problems...)
	if a.callerProblem != "" {
		s.Problems = append(s.Problems, a.callerProblem)
	}
	return s
}

func orStarting(err error) error {
	if err == nil {
		return errors.New("the first one is being tried")
	}
	return err
}

func localService(s *local.Service) *apiv1.LocalService {
	return &apiv1.LocalService{
		Declaration: s.Declaration, Source: s.Source, Health: s.Health, CheckOutput: s.Output, Unit: s.Unit,
	}
}

// healthy reports why the agent does not do its work, nil when it does. That
// servers are away is no reason: it works on without them.
func (a *Agent) healthy() error {
	select {
	case <-a.ready:
	default:
		return errors.New("no server was reached yet, and nothing is known from before")
	}
	c := a.certs.Certificate(a.member.identity().String())
	if c == nil || time.Now().After(c.Leaf.NotAfter) {
		return errors.New("this host's certificate expired, and no server renewed it: if it cannot be renewed, join anew with a token from meshd token create")
	}
	return nil
}
