// Package plan is the immutable configuration that an agent compiles for its
// proxy: types only.
package plan

import (
	"net/netip"
	"time"
)

// Protocol is how a service's bytes are understood.
type Protocol uint8

const (
	TCP Protocol = iota
	HTTP
	// GRPC is HTTP whose application speaks HTTP/2 without TLS.
	GRPC
)

// Requests reports whether calls are requests, not whole connections.
func (p Protocol) Requests() bool { return p != TCP }

// A Plan is all that a proxy does. Nothing in it changes once it was handed
// over; a change is a new plan.
type Plan struct {
	Version     uint64
	TrustDomain string
	// Outbound listeners take calls from applications of this host.
	Outbound []Listener
	// Inbound says which local instance a TLS server name stands for.
	Inbound map[string]*Inbound
}

// A Listener is a loopback address on which callers reach a service.
type Listener struct {
	Address netip.AddrPort
	Service *Service
	// Optional listeners are a convenience (port 80): that one cannot be opened
	// is worth a note, not a problem.
	Optional bool
}

// A Service is a destination of calls.
type Service struct {
	Name     string
	Protocol Protocol
	// Rules in order; the first that matches decides. Not for TCP.
	Rules []Rule
	// Default takes what no rule matches, and all TCP connections.
	Default Target
	// Unknown says that no more than this is known of the service yet: it is
	// worth while for a call to wait for the next plan.
	Unknown bool
}

// A Rule sends the calls that match to a target.
type Rule struct {
	Match  Match
	Target Target
}

// Match holds conditions that must all be met; zero ones always are.
type Match struct {
	Path    string
	Prefix  bool // Path is a prefix of whole segments
	Methods []string
	Headers []Header
}

// Header is one field, its name in lower case.
type Header struct{ Name, Value string }

// A Target is where calls go and on what terms.
type Target struct {
	Split    []Split // at least one
	Timeouts Timeouts
	Retry    Retry
}

// A Split is one share of a target.
type Split struct {
	Cluster *Cluster
	Weight  uint32
}

// Timeouts; zero means none.
type Timeouts struct {
	Request  time.Duration
	Connect  time.Duration
	Response time.Duration
	Idle     time.Duration
}

// Retry says which failed tries are made again.
type Retry struct {
	Attempts     int // after the first
	Connect      bool
	Refused      bool
	Reset        bool
	Statuses     []StatusRange
	PerTry       time.Duration
	BudgetRatio  float64
	BudgetPerSec float64
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ From, To int }

// BalancePolicy chooses among endpoints.
type BalancePolicy uint8

const (
	EWMA BalancePolicy = iota
	LeastRequest
	RoundRobin
	Random
)

// A Cluster is a set of endpoints between which calls are balanced: a service
// or one of its subsets.
type Cluster struct {
	Name    string // SERVICE or SERVICE@SUBSET
	Service string
	// Identity is the SPIFFE ID that the called side must prove.
	Identity  string
	Protocol  Protocol
	Balance   BalancePolicy
	Breaker   Breaker
	Endpoints []Endpoint
}

// Breaker says when an endpoint is left out for a while. A zero limit switches
// its rule off.
type Breaker struct {
	Consecutive int
	SuccessRate float64
	Window      time.Duration
	MaxEjected  float64
}

// An Endpoint is one instance. What the proxy learns of it (latency, failures,
// connections) belongs to its Key and outlives a plan.
type Endpoint struct {
	Key  string // node id and instance id
	Node string
	// Address is the mTLS listener of the instance's agent, or, when Local, of
	// no use: the call goes to Inbound[ServerName] of this very plan.
	Address    netip.AddrPort
	ServerName string
	Local      bool
	Weight     uint32
	// Demoted endpoints are called only when no other is left, and so are those
	// without weight.
	Demoted bool
}

// An Inbound is a local instance that others may call.
type Inbound struct {
	ServerName string
	Service    string
	Identity   string // SPIFFE ID to prove to callers
	Protocol   Protocol
	Address    netip.AddrPort // of the application
	Policies   []Policy
	// DefaultDeny decides when no policy about the service is enforced; Audit
	// says that its refusals are only recorded.
	DefaultDeny bool
	Audit       bool
	// Idle is how long a connection may stay without a byte.
	Idle time.Duration
}

// A Policy decides who may call. Over all policies of a service a deny that
// matches wins, then an allow that matches, then a default of deny.
type Policy struct {
	Name string
	// Audit says that refusals are recorded, not enforced. Such a policy has no
	// say in what is enforced: nor does it allow what others refuse.
	Audit       bool
	DefaultDeny bool
	Rules       []PolicyRule
}

// A PolicyRule matches calls by who makes them and, for HTTP, what they ask.
type PolicyRule struct {
	Name    string
	Deny    bool
	From    []CallerPattern
	Methods []string
	Paths   []PathPattern
}

// A CallerPattern matches SPIFFE IDs: equal to ID, or beginning with it.
type CallerPattern struct {
	ID     string
	Prefix bool
}

// A PathPattern matches canonical paths: equal to Path, or below it by whole
// segments.
type PathPattern struct {
	Path   string
	Prefix bool
}
