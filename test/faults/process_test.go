package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

// A process is one `meshd server` of the built binary, with its own directory,
// and, on a wire, its own network.
type process struct {
	name    string
	dir     string
	binary  string
	inside  string // what a command on its machine begins with
	config  server.Config
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd has ended
	log     *os.File
	control string // file that steers a binary made for faults
}

// A cluster is three processes.
type cluster struct {
	t         *testing.T
	dir       string
	rand      *rand.Rand
	wire      *wire // nil when all share the machine's loopback
	processes []*process
	history   atomic.Pointer[history]
}

// newCluster makes a mesh of three servers that run a binary.
func newCluster(t *testing.T, binary string, wire *wire, ready func(*process)) *cluster {
	t.Helper()
	return newServers(t, 3, binary, wire, ready)
}

// newServers makes a mesh of so many servers. Each directory can be made ready
// before anything is in it.
func newServers(t *testing.T, n int, binary string, wire *wire, ready func(*process)) *cluster {
	t.Helper()
	// The path of a socket may not be as long as that of a test's directory.
	dir, err := os.MkdirTemp("", "mf")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, wire: wire, rand: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))}
	c.history.Store(&history{})
	t.Cleanup(c.end)
	for i := range n {
		c.add(i+1, binary, ready)
	}
	c.await("all to vote", c.allVote)
	return c
}

func (c *cluster) add(n int, binary string, ready func(*process)) {
	c.t.Helper()
	p := &process{name: fmt.Sprintf("s%d", n), binary: binary}
	p.dir = filepath.Join(c.dir, p.name)
	p.control = filepath.Join(p.dir, "control")
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if ready != nil {
		ready(p)
	}
	c.configure(p, n)
	if err := c.admit(p); err != nil {
		c.t.Fatalf("making server %s: %v", p.name, err)
	}
	c.processes = append(c.processes, p)
	p.start(c.t)
	c.await(p.name+" to answer", func() bool { return p.leader() != "" })
}

func (c *cluster) configure(p *process, n int) {
	p.config = server.Config{
		Name: p.name, DataDir: filepath.Join(p.dir, "server"), Socket: filepath.Join(p.dir, "s"),
		Network: netx.System{}, Logger: slog.New(slog.DiscardHandler),
	}
	if c.wire != nil {
		p.inside = c.wire.inside(n)
		p.config.Listen, p.config.GossipListen, p.config.HTTP = ip(n)+":7300", ip(n)+":7301", "127.0.0.1:7302"
	} else {
		p.config.Listen, p.config.GossipListen, p.config.HTTP = freeAddress(c.t), freeAddress(c.t), freeAddress(c.t)
	}
	p.config.Advertise, p.config.GossipAdvertise = p.config.Listen, p.config.GossipListen
	text := fmt.Sprintf("name: %s\ndata_dir: %s\nsocket: %s\nlisten: %s\nadvertise: %[4]s\ngossip_listen: %s\ngossip_advertise: %[5]s\nhttp: %s\n",
		p.name, p.config.DataDir, p.config.Socket, p.config.Listen, p.config.GossipListen, p.config.HTTP)
	if err := os.WriteFile(filepath.Join(p.dir, "server.yaml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// admit has the first make the mesh, the others join it.
func (c *cluster) admit(p *process) error {
	if len(c.processes) == 0 {
		return server.Init(p.config, server.InitOptions{ClusterName: "shop", TrustDomain: "shop.example"})
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cl, err := c.processes[0].connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	reply, err := cl.Admin().CreateToken(ctx, &apiv1.CreateTokenRequest{Server: true})
	if err != nil {
		return err
	}
	return server.Join(ctx, p.config, reply.Token)
}

func (p *process) start(t *testing.T) {
	t.Helper()
	var err error
	if p.log, err = os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(p.inside + p.binary + " server --config " + filepath.Join(p.dir, "server.yaml"))
	p.cmd = exec.Command(words[0], words[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "MESHD_FAULTS_CONTROL="+p.control)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	p.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait()
	}(p.cmd, p.exited)
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop ends the process by a signal and waits until it is gone.
func (p *process) stop(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	p.signal(s)
	<-p.exited
	p.log.Close()
	p.cmd = nil
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return p.cmd != nil
	}
}

func (p *process) connect(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, p.config.Socket)
}

// status asks the server itself.
func (p *process) status() (*apiv1.StatusReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cl, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return cl.Admin().Status(ctx, &apiv1.StatusRequest{})
}

// leader is the name of the server that this one takes for the leader.
func (p *process) leader() string {
	reply, err := p.status()
	if err != nil {
		return ""
	}
	for _, s := range reply.Servers {
		if s.Leader {
			return s.Name
		}
	}
	return ""
}

func (c *cluster) allVote() bool {
	for _, p := range c.processes {
		reply, err := p.status()
		if err != nil || len(reply.Servers) != len(c.processes) {
			return false
		}
		for _, s := range reply.Servers {
			if !s.Voter || !s.Alive {
				return false
			}
		}
	}
	return true
}

// leads is the place of the leader, or of any when there is none.
func (c *cluster) leads() int {
	for i, p := range c.processes {
		if p.leader() == p.name {
			return i
		}
	}
	return c.rand.IntN(len(c.processes))
}

// await lets time pass until cond holds, for two minutes.
func (c *cluster) await(what string, cond func() bool) {
	c.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); pause(nil, 50*time.Millisecond) {
		if cond() {
			return
		}
	}
	c.t.Fatalf("waited in vain for %s", what)
}

// end stops all and shows what they said if the test failed.
func (c *cluster) end() {
	for _, p := range c.processes {
		p.stop(syscall.SIGKILL)
		text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		if bytes.Contains(text, []byte("panic: ")) || bytes.Contains(text, []byte("fatal error: ")) {
			c.t.Errorf("%s panicked", p.name)
		}
		if c.t.Failed() {
			c.t.Logf("%s said at last:\n%s", p.name, text[max(0, len(text)-20000):])
		}
	}
	os.RemoveAll(c.dir)
}

func (c *cluster) connectors() (list []connector) {
	for _, p := range c.processes {
		list = append(list, p.connect)
	}
	return list
}

func (c *cluster) note(format string, args ...any) {
	c.history.Load().note(fmt.Sprintf(format, args...))
}

// suffer keeps a fault up for a while: at times shorter than an election, at
// times longer than a call.
func (c *cluster) suffer(least, most time.Duration) {
	pause(nil, least+time.Duration(c.rand.Int64N(int64(most-least))))
}

// torment lets clients work while a nemesis hurts the servers some times, then
// judges what they saw.
func (c *cluster) torment(t *testing.T, name string, times int, hurt func(*cluster)) {
	t.Helper()
	c.t = t
	w := startWorkload(name, c.connectors(), 2, 40*time.Millisecond, c.rand.Uint64())
	c.history.Store(&w.history)
	for range times {
		c.suffer(200*time.Millisecond, 1500*time.Millisecond)
		hurt(c)
	}
	before, _, _ := w.history.counts()
	c.await("writes to go on", func() bool {
		now, _, _ := w.history.counts()
		return now >= before+20
	})
	w.end()
	w.readAll(t, c.connectors())
	judge(t, &w.history)
}

func (c *cluster) restart(i int) {
	c.processes[i].start(c.t)
	c.note("%s is started", c.processes[i].name)
}

func killLeader(c *cluster) {
	i := c.leads()
	c.note("%s, which leads, is killed", c.processes[i].name)
	c.processes[i].stop(syscall.SIGKILL)
	c.suffer(100*time.Millisecond, 3*time.Second)
	c.restart(i)
}

// stopLeader pauses a leader, which then knows nothing of the time it has missed.
func stopLeader(c *cluster) {
	p := c.processes[c.leads()]
	c.note("%s, which leads, is stopped", p.name)
	p.signal(syscall.SIGSTOP)
	c.suffer(300*time.Millisecond, 4*time.Second)
	p.signal(syscall.SIGCONT)
	c.note("%s goes on", p.name)
}

func killAll(c *cluster) {
	c.note("all are killed")
	for _, p := range c.processes {
		p.signal(syscall.SIGKILL)
	}
	for i := range c.processes {
		c.processes[i].stop(syscall.SIGKILL)
		c.restart(i)
	}
}

func restartInTurn(c *cluster) {
	for i, p := range c.processes {
		c.note("%s is asked to end", p.name)
		p.stop(syscall.SIGTERM)
		c.restart(i)
		c.await("all to vote", c.allVote)
	}
}

// cutOneWay loses what the leader sends to some of the others, or they to it.
func cutOneWay(c *cluster) {
	leader := c.leads() + 1
	mute := c.rand.IntN(2) == 0
	var cuts [][2]int
	for other := 1; other <= len(c.processes); other++ {
		if other != leader && (len(cuts) == 0 || c.rand.IntN(2) == 0) {
			cut := [2]int{other, leader}
			if mute {
				cut = [2]int{leader, other}
			}
			cuts = append(cuts, cut)
		}
	}
	for _, cut := range cuts {
		c.note("s%d does not hear s%d, which leads or led: s%d", cut[1], cut[0], leader)
		c.wire.cut(c.t, cut[0], cut[1])
	}
	c.suffer(500*time.Millisecond, 4*time.Second)
	for _, cut := range cuts {
		c.wire.heal(c.t, cut[0], cut[1])
	}
	c.note("healed")
}

func TestProcessesUnderFaults(t *testing.T) {
	c := newCluster(t, plainBinary(t), nil, nil)
	f := func(name string, times int, hurt func(*cluster)) {
		t.Run(name, func(t *testing.T) { c.torment(t, name, rounds(t, times), hurt) })
	}
	f("leader-killed", 3, killLeader)
	f("leader-stopped", 3, stopLeader)
	f("all-killed", 2, killAll)
	f("restarted-in-turn", 1, restartInTurn)
}

func TestMachinesCutOffOneWay(t *testing.T) {
	needMachines(t)
	c := newCluster(t, plainBinary(t), newWire(t, 3), nil)
	c.torment(t, "one-way", rounds(t, 3), cutOneWay)
}
