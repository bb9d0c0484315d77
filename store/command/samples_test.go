package command

import (
	"bytes"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// samples has a command of each type with every field set.
func samples() map[string]proto.Message {
	return map[string]proto.Message{
		"InitCluster.v1": &InitCluster{
			Cluster:   &apiv1.Cluster{Id: "c0ffee", Name: "test", TrustDomain: "test.mesh", CreatedUnix: 1_800_000_000},
			Authority: sampleAuthority(),
			Server:    sampleServer(),
		},
		"PutServer.v1":    &PutServer{Server: sampleServer(), TokenId: "t1", TimeUnix: 1_800_000_001},
		"RemoveServer.v1": &RemoveServer{Id: "s1"},
		"PutNode.v1":      &PutNode{Node: sampleNode(), TokenId: "t1", TimeUnix: 1_800_000_002},
		"TakeLease.v1":    &TakeLease{NodeId: "n1", ServerId: "s1", Epoch: 7, Address: "10.0.0.5", InboundPort: 7443, Version: "1.0.0"},
		"EndLease.v1":     &EndLease{NodeId: "n1", Epoch: 7, State: apiv1.NodeState_NODE_STATE_LOST},
		"RemoveNode.v1":   &RemoveNode{NodeId: "n1"},
		"SetInstances.v1": &SetInstances{NodeId: "n1", Put: []*apiv1.Instance{sampleInstance()}, Remove: []string{"old"}},
		"SetInstances.v2": &SetInstances{NodeId: "n1", Put: []*apiv1.Instance{sampleInstance()}, Epoch: 3},
		"SetResources.v1": sampleResources(),
		"PutToken.v1":     &PutToken{Token: sampleToken()},
		"RemoveToken.v1":  &RemoveToken{Id: "t1"},
		"PutAuthority.v1": &PutAuthority{Authority: sampleAuthority()},

		"InitCluster.v2": &InitCluster{
			Cluster:    &apiv1.Cluster{Id: "c0ffee", Name: "test", TrustDomain: "test.mesh", CreatedUnix: 1_800_000_000, FeatureLevel: 2, Recovery: 1},
			Authority:  sampleRotation(),
			Server:     sampleServer2(),
			GossipKeys: sampleGossipKeys(),
		},
		"PutServer.v2":    &PutServer{Server: sampleServer2(), TokenId: "t1", TimeUnix: 1_800_000_001},
		"RemoveServer.v2": &RemoveServer{Id: "s1", TimeUnix: 1_800_000_004},
		"PutNode.v2":      &PutNode{Node: sampleNode2(), TokenId: "t1", TimeUnix: 1_800_000_002},
		"TakeLease.v2":    &TakeLease{NodeId: "n1", ServerId: "s1", Epoch: 7, Address: "10.0.0.5", InboundPort: 7443, Version: "1.0.0", TimeUnix: 1_800_000_005},
		"EndLease.v2":     &EndLease{NodeId: "n1", Epoch: 7, State: apiv1.NodeState_NODE_STATE_LEFT, TimeUnix: 1_800_000_006},
		"SetResources.v2": &SetResources{Remove: []*ResourceKey{{Kind: "route", Name: "old", Version: 18}}},
		"PutToken.v2":     &PutToken{Token: &apiv1.Token{Id: "t2", SecretHash: bytes.Repeat([]byte{19}, 32), ExpiresUnix: 1_800_003_600, WholeCatalogue: true}},

		"Audited.v2":         sampleAudited(),
		"UpdateServer.v2":    &UpdateServer{Server: sampleServer2()},
		"SetFeatureLevel.v2": &SetFeatureLevel{Level: 2},
		"Recover.v2":         &Recover{Recovery: 1, ServerIds: []string{"s1", "s2"}, TimeUnix: 1_800_000_007},
		"PutAccessToken.v2": &PutAccessToken{Token: &apiv1.AccessToken{
			Id: "a1", SecretHash: bytes.Repeat([]byte{20}, 32), Role: apiv1.Role_ROLE_OPERATOR, Description: "pipeline",
			CreatedBy: "user root", CreatedUnix: 1_800_000_008, ExpiresUnix: 1_800_003_600, CreateIndex: 21,
		}},
		"RemoveAccessToken.v2": &RemoveAccessToken{Id: "a1"},
		"ChangeAuthority.v2":   &ChangeAuthority{Authority: sampleRotation(), FromIndex: 22},
		"SetGossipKeys.v2":     &SetGossipKeys{Keys: sampleGossipKeys(), FromIndex: 23},
		"Reap.v2": &Reap{
			TimeUnix: 1_800_000_009, TokenIds: []string{"t1"}, AccessTokenIds: []string{"a1"},
			NodeIds: []string{"n1"}, DeadBeforeUnix: 1_799_000_000, KeepAuditRecords: 16384,
		},
		"RestoreState.v2": &RestoreState{Id: "r1", Offset: 28, Data: []byte{29}, Last: true, OtherMesh: true, TimeUnix: 1_800_000_015},
	}
}

func sampleAudited() *Audited {
	return &Audited{
		Record: &apiv1.AuditRecord{
			Index: 24, TimeUnixNano: 1_800_000_010_000_000_001, Actor: "token a1", Role: apiv1.Role_ROLE_ADMIN,
			Source: "10.0.0.9", Server: "vm1", Action: "delete", Objects: []string{"route old"}, Refusal: "not found",
		},
		Entry: []byte{format, 0, byte(TypeRemoveNode), 10, 2, 'n', '1'},
	}
}

func sampleGossipKeys() *apiv1.GossipKeys {
	return &apiv1.GossipKeys{Sealed: [][]byte{{1, 2}, {3, 4}}, ModifyIndex: 25, RotatedUnix: 1_800_000_011}
}

func sampleRotation() *apiv1.Authority {
	a := sampleAuthority()
	a.Intermediates, a.OtherRoots, a.Generation = [][]byte{{5}, {6}}, [][]byte{{7}}, 26
	a.Rotation = &apiv1.Rotation{
		Phase: apiv1.Rotation_PHASE_RENEW, StartedUnix: 1_800_000_012, PhaseUnix: 1_800_000_013, PhaseIndex: 27,
		Next: sampleAuthority(), StartedBy: "user root",
	}
	return a
}

func sampleServer2() *apiv1.Server {
	s := sampleServer()
	s.Version, s.FeatureLevel = "1.0.0", 2
	return s
}

func sampleNode2() *apiv1.Node {
	n := sampleNode()
	n.StateUnix, n.WholeCatalogue = 1_800_000_014, true
	return n
}

func sampleAuthority() *apiv1.Authority {
	return &apiv1.Authority{
		TrustDomain: "test.mesh", RootCertificate: bytes.Repeat([]byte{1}, 3), IssuingCertificate: bytes.Repeat([]byte{2}, 3),
		SealedRootKey: bytes.Repeat([]byte{3}, 3), SealedIssuingKey: bytes.Repeat([]byte{4}, 3), ModifyIndex: 5,
	}
}

func sampleServer() *apiv1.Server {
	return &apiv1.Server{
		Id: "s1", Name: "vm1", Address: "10.0.0.1:7300", GossipAddress: "10.0.0.1:7301", KeyHash: bytes.Repeat([]byte{6}, 32), CreateIndex: 7,
	}
}

func sampleNode() *apiv1.Node {
	return &apiv1.Node{
		Id: "n1", Name: "vm1", Address: "10.0.0.1", InboundPort: 7443, State: apiv1.NodeState_NODE_STATE_ALIVE,
		Version: "1.0.0", AllowedServices: []string{"web", "orders*"}, LeaseServer: "s1", LeaseEpoch: 8,
		KeyHash: bytes.Repeat([]byte{9}, 32), CreateIndex: 10, ModifyIndex: 11,
	}
}

func sampleInstance() *apiv1.Instance {
	return &apiv1.Instance{
		NodeId: "n1", Id: "web-1", Service: "web", Port: 3000, Protocol: apiv1.Protocol_PROTOCOL_HTTP,
		Tags: []string{"blue"}, Meta: map[string]string{"version": "2", "zone": "a"}, Weight: 2,
		Health: apiv1.Health_HEALTH_PASSING, CreateIndex: 12, ModifyIndex: 13,
	}
}

func sampleToken() *apiv1.Token {
	return &apiv1.Token{
		Id: "t1", SecretHash: bytes.Repeat([]byte{14}, 32), Server: true, AllowedServices: []string{"*"}, AllowedNames: []string{"vm1"},
		ExpiresUnix: 1_800_003_600, Reusable: true, UsedBy: bytes.Repeat([]byte{15}, 32), UsedUnix: 1_800_000_003, CreateIndex: 16,
	}
}

func sampleResources() *SetResources {
	return &SetResources{
		Put: []*apiv1.Resource{
			{Name: "orders", Version: 17, Spec: &apiv1.Resource_Service{Service: sampleService()}},
			{Name: "orders-canary", Spec: &apiv1.Resource_Route{Route: sampleRoute()}},
			{Name: "orders", Spec: &apiv1.Resource_Policy{Policy: samplePolicy()}},
			{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{
				Policy:       &apiv1.MeshPolicy{Default: apiv1.PolicyAction_POLICY_ACTION_ALLOW, Mode: apiv1.PolicyMode_POLICY_MODE_AUDIT},
				Certificates: &apiv1.MeshCertificates{Ttl: durationpb.New(86400e9)},
			}}},
		},
		Remove: []*ResourceKey{{Kind: "route", Name: "old"}},
	}
}

func sampleService() *apiv1.Service {
	return &apiv1.Service{
		Protocol: apiv1.Protocol_PROTOCOL_HTTP,
		Timeout: &apiv1.Timeouts{
			Request: durationpb.New(15e9), Connect: durationpb.New(1e9), Response: durationpb.New(2e9), Idle: durationpb.New(300e9),
		},
		Retry: &apiv1.Retry{
			Attempts: proto.Uint32(2), On: []string{"connect", "503"}, PerTry: durationpb.New(5e9),
			Budget: &apiv1.RetryBudget{Ratio: proto.Float64(0.2), MinPerSecond: proto.Float64(10)},
		},
		Balance: &apiv1.Balance{Policy: "ewma"},
		Breaker: &apiv1.Breaker{
			Consecutive: proto.Uint32(5), SuccessRate: proto.Float64(0.8), Window: durationpb.New(10e9), MaxEjected: proto.Float64(0.5),
		},
		Subsets: map[string]*apiv1.Subset{"v2": {Match: map[string]string{"meta.version": "2"}}},
	}
}

func sampleRoute() *apiv1.Route {
	return &apiv1.Route{Service: "orders", Rules: []*apiv1.RouteRule{
		{
			Match: &apiv1.RouteMatch{
				Path:    &apiv1.PathMatch{Kind: &apiv1.PathMatch_Prefix{Prefix: "/v2/"}},
				Methods: []string{"GET"}, Headers: map[string]string{"x-canary": "1"},
			},
			Split:   []*apiv1.Split{{To: "orders@v2", Weight: proto.Uint32(10)}, {To: "orders", Weight: proto.Uint32(90)}},
			Timeout: &apiv1.Timeouts{Request: durationpb.New(2e9)},
			Retry:   &apiv1.Retry{Attempts: proto.Uint32(0)},
		},
		{Match: &apiv1.RouteMatch{Path: &apiv1.PathMatch{Kind: &apiv1.PathMatch_Exact{Exact: "/old"}}}},
	}}
}

func samplePolicy() *apiv1.Policy {
	return &apiv1.Policy{
		Service: "orders", Mode: apiv1.PolicyMode_POLICY_MODE_ENFORCE, Default: apiv1.PolicyAction_POLICY_ACTION_DENY,
		Rules: []*apiv1.PolicyRule{{
			Name: "web-reads", From: []string{"web"}, Action: apiv1.PolicyAction_POLICY_ACTION_ALLOW,
			Methods: []string{"GET"}, Paths: []string{"/orders/*"},
		}},
	}
}
