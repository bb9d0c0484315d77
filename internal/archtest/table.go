package archtest

// A layer is a set of packages; imports run from later layers to earlier ones,
// or stay within their layer.
type layer struct {
	name     string
	packages []string
}

var layers = []layer{
	{"contract and leaves", []string{"api/v1", "packaging", "internal/atomicfile", "internal/spell", "internal/version"}},
	{"vocabulary", []string{
		"internal/mesh", "internal/pki", "internal/netx", "internal/memnet", "internal/telemetry",
		"internal/systemd", "internal/config", "internal/jointoken", "internal/accesstoken", "internal/host",
	}},
	{"engines", []string{"store/...", "proxy/...", "dns/...", "internal/gossip", "internal/grpcx"}},
	{"assemblies", []string{"api/client", "server/...", "agent/..."}},
	{"command line", []string{"internal/cli/...", "internal/dev", "internal/meshtest"}},
	{"programs and whole-mesh tests", []string{".", "internal/archtest", "test/...", "bench/..."}},
}

// Engines are swapped and tested one by one; what two of them have in common
// belongs to the vocabulary, what joins them to an assembly.
var engines = []string{"store/...", "proxy/...", "dns/...", "internal/gossip", "internal/grpcx"}

// steps is the order within the proxy: a package imports only from earlier
// steps, so that every decider can be tested alone and engines never meet.
var steps = [][]string{
	{"proxy/plan"},
	{"proxy/exchange", "proxy/relay", "proxy/http2/hpack", "proxy/http2/frame"},
	{"proxy/http1/codec", "proxy/http2/mux", "proxy/http2/message"},
	{"proxy/http2/session"},
	{"proxy/route", "proxy/balance", "proxy/authz", "proxy/limit", "proxy/mtls", "proxy/observe"},
	{"proxy/pool"},
	{"proxy/dispatch"},
	{"proxy/forward"},
	{"proxy/http1", "proxy/http2", "proxy/l4"},
	{"proxy"},
}

// partOf are the trees in which a package belongs to the one above it.
var partOf = []string{"store/...", "proxy/...", "dns/...", "server/...", "agent/..."}

// A ban forbids packages to import others, directly or, with reach, through
// other packages of this module too.
type ban struct {
	from, to []string
	reach    bool
	reason   string
}

var bans = []ban{
	{[]string{"agent/..."}, []string{"server/...", "store/..."}, true,
		"an agent knows servers by their API only, so that either can be upgraded alone and a stolen host holds no control-plane code paths"},
	{[]string{"server/..."}, []string{"agent/...", "proxy/...", "dns/..."}, true,
		"servers carry no traffic: a fault in the data path must not reach the control plane"},
	{[]string{"proxy/...", "dns/..."}, []string{"api/...", "google.golang.org/...", "github.com/hashicorp/...", "internal/config"}, false,
		"the data path runs on compiled plans and zones, and knows nothing of protobuf, gRPC, Raft or YAML"},
	{[]string{"store/...", "internal/gossip"}, []string{"google.golang.org/grpc/..."}, false,
		"replication is not tied to how its callers are reached"},
	{[]string{"store/state"}, []string{"os", "os/...", "net/http/...", "math/rand/...", "crypto/rand", "syscall", "golang.org/x/sys/...", "log/slog"}, false,
		"replicas apply the same commands and must reach the same state: no clock, no randomness, no IO"},
}

// A home says which packages may import a third-party module outside of tests.
type home struct {
	module   string
	packages []string
	reason   string
}

const swappable = "each library has one home, so that it can be swapped in a day"

var homes = []home{
	{"github.com/hashicorp/raft", []string{"store", "store/raftlog", "bench/raftlog"}, swappable},
	{"github.com/hashicorp/raft-autopilot", []string{"store"}, swappable},
	{"go.etcd.io/bbolt", []string{"store/raftlog"}, swappable},
	{"github.com/hashicorp/go-memdb", []string{"store/state"}, swappable},
	{"github.com/hashicorp/memberlist", []string{"internal/gossip"}, swappable},
	{"github.com/hashicorp/go-hclog", []string{"store", "internal/gossip"}, "hclog is only an adapter for Raft; we log with slog"},
	{"github.com/hashicorp/go-metrics", []string{"store", "internal/gossip"}, "go-metrics is only a bridge to the Prometheus registry"},
	{"github.com/miekg/dns", []string{"dns/..."}, swappable},
	{"github.com/urfave/cli", []string{"internal/cli"}, swappable},
	{"github.com/goccy/go-yaml", []string{"internal/config"}, swappable},
	{"google.golang.org/grpc", []string{"api/v1", "api/client", "internal/grpcx", "internal/cli", "server", "server/rpc", "server/httpapi", "server/push", "agent", "agent/control", "bench/peers"},
		"only the ends of a call know what carries it"},
	{"google.golang.org/genproto", []string{"api/v1", "internal/grpcx"}, "only the ends of a call know what carries it"},
	{"google.golang.org/protobuf", []string{"api/...", "store/...", "server/...", "agent/...", "internal/mesh", "internal/grpcx", "internal/config", "internal/cli", "internal/dev", "bench/peers"},
		"the data path runs on compiled plans, not on messages"},
	{"github.com/prometheus/client_golang", []string{"internal/telemetry", "proxy", "proxy/observe", "dns", "store", "server", "server/rpc", "agent", "internal/gossip"},
		"packages take a Registerer; only telemetry makes and serves a registry"},
	{"github.com/prometheus/client_model", []string{"internal/telemetry"}, swappable},
	{"github.com/coreos/go-systemd", []string{"internal/systemd"}, swappable},
	{"github.com/godbus/dbus", []string{"internal/systemd"}, swappable},
	{"golang.org/x/term", []string{"internal/cli", "internal/telemetry"}, "only these two talk to people"},
	{"golang.org/x/sys", []string{"..."}, ""},
	{"golang.org/x/time", []string{"server/rpc"}, swappable},
	{"golang.org/x/net", nil, testsOnly},
	{"github.com/google/go-cmp", nil, testsOnly},
	{"github.com/anishathalye/porcupine", nil, testsOnly},
	{"github.com/rogpeppe/go-internal", nil, testsOnly},
	{"go.uber.org/goleak", nil, testsOnly},
	{"pgregory.net/rapid", nil, testsOnly},
}

const testsOnly = "this library is for tests, it stays out of the binary"

// A silence forbids calls of a package's functions.
type silence struct {
	in, except []string
	tests      bool     // test files instead of the others
	unless     []string // files that import one of these may
	pkg        string
	functions  []string
	reason     string
}

var silences = []silence{
	{[]string{"..."}, nil, true, []string{"testing/synctest", module + "/internal/meshtest"}, "time", []string{"Sleep"},
		"a test that sleeps on a real clock is slow when it works and flaky when it does not: use testing/synctest or wait for an event"},
	{[]string{"store/state"}, nil, false, nil, "time", []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
		"replicas apply the same commands and must reach the same state: the leader puts times into commands"},
	{[]string{"store/state"}, nil, false, nil, "net", []string{"Dial", "DialTimeout", "Dialer", "Listen", "ListenPacket", "ListenConfig", "Interfaces",
		"InterfaceAddrs", "Resolver", "DefaultResolver", "LookupHost", "LookupIP", "LookupAddr", "ResolveTCPAddr", "ResolveUDPAddr"},
		"replicas apply the same commands and must reach the same state: of package net only what reads text may be used"},
	{[]string{"..."}, nil, false, nil, "log/slog", []string{"Default", "SetDefault", "Debug", "Info", "Warn", "Error", "Log", "With"},
		"loggers are passed in: several agents and servers may live in one process"},
	{[]string{"..."}, []string{".", "internal/cli/...", "test/...", "bench/..."}, false, nil, "os", []string{"Exit"},
		"only the command line ends the process; others return errors, so that what they own is shut down"},
}
