package state

import (
	"testing"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func TestReapTokens(t *testing.T) {
	m := newMesh(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "once", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "used", SecretHash: sum(1), ExpiresUnix: now + 10}})
	m.ok(join("n1", "vm1", "used"))
	m.ok(join("n2", "vm2", "any"))
	m.ok(&command.PutAccessToken{Token: accessToken("ci")})
	forever := accessToken("forever")
	forever.ExpiresUnix = 0
	m.ok(&command.PutAccessToken{Token: forever})

	reap := func(at int64) *command.Reap {
		return &command.Reap{TimeUnix: at, TokenIds: []string{"once", "used", "any", "none"}, AccessTokenIds: []string{"ci", "forever", "none"}}
	}
	m.refused(reap(0), isInvalid, "does not say when")
	m.same("token used deleted", changes(m.ok(reap(now+9))))
	m.same("token once deleted", changes(m.ok(reap(now+10))))
	m.unchanged(reap(now + 59))
	m.same("access token ci deleted", changes(m.ok(reap(now+60))))
	m.same("token any deleted", changes(m.ok(reap(now+3600))))
	if m.db.Read().AccessToken(nil, "forever") == nil {
		t.Error("a token without an end is gone")
	}
}

func TestReapHosts(t *testing.T) {
	m := newMesh(t)
	for i, id := range []string{"n1", "n2", "n3", "n4"} {
		m.ok(join(id, "vm"+id[1:], "any"))
		if i < 3 {
			m.ok(lease(id, 1))
		}
	}
	m.ok(&command.SetInstances{NodeId: "n1", Put: []*apiv1.Instance{instance("web", "web")}})
	m.ok(&command.EndLease{NodeId: "n1", Epoch: 1, State: lost, TimeUnix: now + 100})
	m.ok(&command.EndLease{NodeId: "n2", Epoch: 1, State: left, TimeUnix: now + 200})
	reap := func(before int64) *command.Reap {
		return &command.Reap{TimeUnix: now + 1000, NodeIds: []string{"n1", "n2", "n3", "n4", "none"}, DeadBeforeUnix: before}
	}
	m.unchanged(reap(now))
	m.same("host vm4 deleted", changes(m.ok(reap(now+100)))) // it joined and was never heard of
	m.same("host vm1 deleted", changes(m.ok(reap(now+200))))
	m.touched("web")
	if names, _ := m.db.Read().RemovedNodes(nil, m.index-1); len(names) != 1 || names[0] != "vm1" {
		t.Errorf("%v", names)
	}
	m.same("host vm2 deleted", changes(m.ok(reap(now+201))))
	m.unchanged(reap(now + 999)) // n3 is alive
}

// Of a host that was lost before the mesh took note of such times, the time
// counts from the first look at it.
func TestReapHostsOfAnOlderVersion(t *testing.T) {
	m := newLevel1(t)
	m.ok(&command.PutToken{Token: &apiv1.Token{Id: "any", SecretHash: sum('t'), ExpiresUnix: now + 3600, Reusable: true}})
	m.ok(join("n1", "vm1", "any"))
	m.ok(&command.PutServer{Server: server("s1")})
	m.ok(&command.SetFeatureLevel{Level: 2})
	joined := m.db.Read().Node(nil, "n1").ModifyIndex
	m.same("", changes(m.ok(&command.Reap{TimeUnix: now + 500, NodeIds: []string{"n1"}, DeadBeforeUnix: now + 400})))
	if n := m.db.Read().Node(nil, "n1"); n.StateUnix != now+500 || n.ModifyIndex != joined {
		t.Errorf("%v", n)
	}
	m.unchanged(&command.Reap{TimeUnix: now + 600, NodeIds: []string{"n1"}, DeadBeforeUnix: now + 500})
	m.same("host vm1 deleted", changes(m.ok(&command.Reap{TimeUnix: now + 700, NodeIds: []string{"n1"}, DeadBeforeUnix: now + 600})))
}
