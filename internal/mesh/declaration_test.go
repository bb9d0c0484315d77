package mesh

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func httpCheck(path string) *apiv1.CheckSpec {
	return &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Http{Http: path}}
}

func tcpCheck(target string) *apiv1.CheckSpec {
	return &apiv1.CheckSpec{Kind: &apiv1.CheckSpec_Tcp{Tcp: target}}
}

func TestCheckDeclaration(t *testing.T) {
	f := func(d *apiv1.Declaration, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, describe(CheckDeclaration(d))); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	f(&apiv1.Declaration{Name: "web", Id: "web:1", Port: 80, Unit: `web@a\x2db.service`, User: "www-data", Weight: proto.Uint32(5), Tags: []string{"v2", "a=b"},
		Meta: map[string]string{"version": "2", "empty": ""}, Checks: []*apiv1.CheckSpec{httpCheck("/healthz?full=1"), tcpCheck(":"), tcpCheck("[::1]:90")}})
	f(&apiv1.Declaration{Id: "a b", Port: 70000, Protocol: 9, Unit: "web", User: "a:b", Weight: proto.Uint32(0), Tags: []string{"a", "a", ""},
		Meta: map[string]string{"a b": "x\n"}},
		`0 name: name "" is not 1 to 63 characters long`,
		`0 id: id "a b" has ' ': only letters, digits and any of ._:- are allowed`,
		`0 port: port 70000 is none`,
		`0 protocol: protocol number 9 is not known to this version`,
		`0 unit: unit "web" does not end in .service, .scope or .slice`,
		`0 user: user "a:b" has ':': only letters, digits and any of ._- are allowed`,
		`0 tags[2]: tag "" is not 1 to 63 characters long`, `0 tags[1]: "a" is given twice`,
		`0 meta["a b"]: meta key "a b" has ' ': only letters, digits and any of ._- are allowed`,
		`0 meta["a b"]: value "x\n" holds a control character`,
		`0 weight: weight 0 is out of range`)
	short := tcpCheck("10.0.0.1:80")
	short.Interval, short.Timeout = durationpb.New(time.Millisecond), durationpb.New(time.Hour)
	f(&apiv1.Declaration{Name: "web", Port: 80, Checks: []*apiv1.CheckSpec{{}, httpCheck("healthz"), httpCheck("/a b"), tcpCheck("80"), short}},
		`0 checks[0]: the check does not say what to check`,
		`0 checks[1].http: "healthz" is no path: it does not begin with /, or is longer than 1024 characters`,
		`0 checks[2].http: path "/a b" has ' ', which a request cannot carry`,
		`0 checks[3].tcp: "80" is not ADDRESS:PORT`,
		`0 checks[4].tcp: "10.0.0.1:80": 10.0.0.1 is not an address of this host's loopback interface`,
		`0 checks[4].interval: the duration 1ms is out of range`, `0 checks[4].timeout: the duration 1h0m0s is out of range`)
}

func TestCompleteDeclaration(t *testing.T) {
	f := func(d, want *apiv1.Declaration) {
		t.Helper()
		before := proto.CloneOf(d)
		got := CompleteDeclaration(d)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if !proto.Equal(d, before) {
			t.Error("the declaration given was changed")
		}
		if !proto.Equal(CompleteDeclaration(got), got) {
			t.Error("completing twice is not completing once")
		}
	}
	f(&apiv1.Declaration{Name: "db", Port: 1}, &apiv1.Declaration{Name: "db", Id: "db", Port: 1, Protocol: apiv1.Protocol_PROTOCOL_TCP, Weight: proto.Uint32(1)})
	check := httpCheck("/")
	check.Interval = durationpb.New(time.Second)
	want := proto.CloneOf(check)
	want.Timeout = durationpb.New(time.Second)
	f(&apiv1.Declaration{Name: "web", Id: "w", Checks: []*apiv1.CheckSpec{check}, Weight: proto.Uint32(3)},
		&apiv1.Declaration{Name: "web", Id: "w", Protocol: apiv1.Protocol_PROTOCOL_HTTP, Weight: proto.Uint32(3), Checks: []*apiv1.CheckSpec{want}})
}

func TestEffective(t *testing.T) {
	f := func(got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	f(EffectiveTimeouts(nil, nil), Timeouts{0, 3 * time.Second, 30 * time.Second, 5 * time.Minute})
	f(EffectiveTimeouts(&apiv1.Timeouts{Request: durationpb.New(time.Second), Idle: durationpb.New(0)}, &apiv1.Timeouts{Request: durationpb.New(2)}),
		Timeouts{2, 3 * time.Second, 30 * time.Second, 0})
	f(EffectiveRetry(nil), Retry{Attempts: 1, On: RetryOn{Connect: true, Refused: true, Reset: true}, BudgetRatio: 0.2, BudgetPerSecond: 10})
	f(EffectiveRetry(&apiv1.Retry{Attempts: proto.Uint32(0), Budget: &apiv1.RetryBudget{Ratio: proto.Float64(0)}}, &apiv1.Retry{On: []string{"503", "gateway-error"}, PerTry: durationpb.New(5)}),
		Retry{On: RetryOn{Statuses: []StatusRange{{503, 503}, {502, 504}}}, PerTry: 5, BudgetPerSecond: 10})
	f(EffectiveBalance(nil), "ewma")
	f(EffectiveBreaker(nil), Breaker{5, 0.8, 10 * time.Second, 0.5})
	f(EffectiveBreaker(&apiv1.Breaker{Consecutive: proto.Uint32(0), MaxEjected: proto.Float64(1)}), Breaker{0, 0.8, 10 * time.Second, 1})
	f(EffectiveSplitWeight(&apiv1.Split{}), uint32(1))
	f(EffectiveSplitWeight(&apiv1.Split{Weight: proto.Uint32(0)}), uint32(0))
	f(EffectiveWeight(0), uint32(1))
	f(EffectivePolicy(&apiv1.Policy{}), PolicySettings{DefaultDeny: true})
	f(EffectivePolicy(&apiv1.Policy{Default: apiv1.PolicyAction_POLICY_ACTION_ALLOW, Mode: apiv1.PolicyMode_POLICY_MODE_AUDIT}), PolicySettings{Audit: true})
	f(EffectiveMeshPolicy(nil), PolicySettings{})
	f(EffectiveMeshPolicy(&apiv1.Mesh{Policy: &apiv1.MeshPolicy{Default: apiv1.PolicyAction_POLICY_ACTION_DENY}}), PolicySettings{DefaultDeny: true})
	f(EffectiveCertificateTTL(nil), 24*time.Hour)
}
