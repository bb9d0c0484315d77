package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// Random commands are applied to two states, which must stay equal byte for
// byte, and what every command does is held against rules that need no model.
func TestRandomCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &random{T: t, one: New(), two: New(), vips: map[string]uint32{}}
		init := initCluster()
		init.Cluster.FeatureLevel = rapid.Uint32Range(0, command.MaxLevel).Draw(t, "level")
		r.step(init)
		r.step(&command.PutToken{Token: &apiv1.Token{Id: "t0", SecretHash: sum('t'), ExpiresUnix: now + 5, Server: true, Reusable: true}})
		for _, id := range []string{"n1", "n2"} {
			r.step(join(id, "vm"+id[1:], "t0"))
			r.step(lease(id, 1))
		}
		t.Repeat(map[string]func(*rapid.T){
			"command": func(t *rapid.T) { r.T = t; r.step(r.command()) },
			"restore": func(t *rapid.T) { r.T = t; r.restore() },
		})
	})
}

type random struct {
	*rapid.T
	one, two *DB
	index    uint64
	vips     map[string]uint32
	past     []*Txn // some of the states that one has been in
	rest     []byte // of a past state that is being brought back
}

func (r *random) step(msg proto.Message) {
	r.index += rapid.Uint64Range(1, 3).Draw(r.T, "index")
	before := r.one.Read()
	was := rowsOf(r.one)
	result := r.one.Apply(r.index, msg)
	other := r.two.Apply(r.index, proto.Clone(msg))
	if !proto.Equal(result, other) {
		r.Fatalf("%v\nbecame  %v\nbecame  %v", msg, result, other)
	}
	if !bytes.Equal(snapshot(r.T, r.one), snapshot(r.T, r.two)) {
		r.Fatalf("after %v the two states differ", msg)
	}
	r.checkTouched(before, r.one.Read(), msg)
	r.checkPlaces()
	r.keep()
	r.checkAudit(before, msg, result)
	if result.Refusal != 0 {
		r.checkRefused(result, was, rowsOf(r.one))
	}
}

// rowsOf are all rows but those of the audit.
func rowsOf(db *DB) (rows []proto.Message) {
	db.Snapshot().records(func(row *Record) {
		if row.GetAudit() == nil {
			rows = append(rows, row)
		}
	})
	return rows
}

// checkAudit holds that an audited command is on record, done or refused, that
// no other is, and that only the oldest records ever go.
func (r *random) checkAudit(before *Txn, msg proto.Message, result *command.Result) {
	was, is := before.Audit(nil, 0, 0), r.one.Read().Audit(nil, 0, 0)
	if _, ok := msg.(*command.Audited); ok && before.FeatureLevel(nil) >= 2 {
		if is[0].Index != r.index || (is[0].Refusal == "") != (result.Refusal == 0) {
			r.Fatalf("%v became %v and is on record as %v", msg, result, is[0])
		}
		is = is[1:]
	}
	if len(is) > len(was) || !slices.EqualFunc(is, was[:len(is)], same) {
		r.Fatalf("after %v the audit of %v is %v", msg, was, is)
	}
}

func same(a, b *apiv1.AuditRecord) bool { return proto.Equal(a, b) }

// checkTouched holds that a service's index moves exactly when something in its
// slice has changed.
func (r *random) checkTouched(before, after *Txn, msg proto.Message) {
	for _, s := range after.Services(nil) {
		was := before.Service(nil, s.Name)
		touched := was == nil || was.ModifyIndex != s.ModifyIndex
		changed := was == nil || !slicesEqual(slice(before, s.Name), slice(after, s.Name))
		if touched != changed || touched && s.ModifyIndex != r.index {
			r.Fatalf("after %v service %q is at %d, was %v, and its slice changed: %v", msg, s.Name, s.ModifyIndex, was, changed)
		}
	}
	for _, n := range after.Nodes(nil) {
		was := proto.CloneOf(before.Node(nil, n.Id))
		if was == nil {
			continue
		}
		was.LeaseServer, was.LeaseEpoch, was.StateUnix = n.LeaseServer, n.LeaseEpoch, n.StateUnix
		if moved := was.ModifyIndex != n.ModifyIndex; moved == proto.Equal(was, n) {
			r.Fatalf("after %v host %v, which was %v", msg, n, was)
		}
	}
}

// keep keeps some states, to be brought back.
func (r *random) keep() {
	if rapid.IntRange(0, 4).Draw(r.T, "keep") == 0 {
		r.past = append(r.past[max(0, len(r.past)-2):], r.one.Read())
	}
}

// visible is what callers see of a host.
func visible(n *apiv1.Node) *apiv1.Node {
	return &apiv1.Node{Id: n.Id, Name: n.Name, Address: n.Address, InboundPort: n.InboundPort, State: n.State}
}

func slicesEqual(a, b []proto.Message) bool { return slices.EqualFunc(a, b, proto.Equal) }

// slice is all that agents see of a service.
func slice(t *Txn, service string) (rows []proto.Message) {
	for _, i := range t.Instances(nil, service) {
		rows = append(rows, i, visible(t.Node(nil, i.NodeId)))
	}
	for _, r := range slices.Concat(t.Routes(nil, service), t.Policies(nil, service)) {
		rows = append(rows, r)
	}
	if config := t.Resource(nil, "service", service); config != nil {
		rows = append(rows, config)
	}
	return rows
}

// checkPlaces holds that services have the places 1, 2, 3 and keep them.
func (r *random) checkPlaces() {
	services := r.one.Read().Services(nil)
	taken := map[uint32]bool{}
	for _, s := range services {
		if was, ok := r.vips[s.Name]; ok && was != s.Vip {
			r.Fatalf("%q moved from place %d to %d", s.Name, was, s.Vip)
		}
		if s.Vip < 1 || int(s.Vip) > len(services) || taken[s.Vip] {
			r.Fatalf("%q has place %d of %d", s.Name, s.Vip, len(services))
		}
		taken[s.Vip], r.vips[s.Name] = true, s.Vip
	}
	if len(services) < len(r.vips) {
		r.Fatalf("of services %v only %v are left", r.vips, services)
	}
}

func (r *random) checkRefused(result *command.Result, was, is []proto.Message) {
	if result.Message == "" || result.Id != "" || result.Changes != nil {
		r.Fatalf("refused as %v", result)
	}
	if !slicesEqual(was, is) {
		r.Fatalf("refused (%s), yet something changed", result.Message)
	}
}

func (r *random) restore() {
	want := snapshot(r.T, r.one)
	r.one = New()
	if err := r.one.Restore(bytes.NewReader(want)); err != nil {
		r.Fatal(err)
	}
	if !bytes.Equal(want, snapshot(r.T, r.one)) {
		r.Fatal("a restored state is written differently")
	}
}

func (r *random) command() proto.Message {
	if msg := r.plain(); rapid.IntRange(0, 4).Draw(r.T, "audited") > 0 {
		return msg
	} else {
		return audited(msg)
	}
}

func (r *random) plain() proto.Message {
	switch rapid.IntRange(0, 19).Draw(r.T, "command") {
	case 0:
		return &command.PutServer{Server: server(r.pick("server", "s1", "s2", "s3")), TokenId: r.token(), TimeUnix: r.time()}
	case 1:
		return &command.RemoveServer{Id: r.pick("server", "s1", "s2", "s3")}
	case 2, 3:
		n := node(r.nodeID(), r.pick("name", "vm1", "vm2", "vm3"))
		n.Address = r.pick("address", "10.0.0.9", "10.0.0.8", "nonsense")
		return &command.PutNode{Node: n, TokenId: r.token(), TimeUnix: r.time()}
	case 4:
		c := lease(r.nodeID(), rapid.Uint64Range(0, 6).Draw(r.T, "epoch"))
		c.TimeUnix = r.time()
		c.ServerId = r.pick("server", "s1", "s2")
		c.Address = r.pick("address", "10.0.0.9", "10.0.0.8", "")
		return c
	case 5:
		state := rapid.SampledFrom([]apiv1.NodeState{lost, left, alive}).Draw(r.T, "state")
		id := r.nodeID()
		epoch := r.one.Read().Node(nil, id).GetLeaseEpoch() + r.few("ahead")
		return &command.EndLease{NodeId: id, Epoch: epoch, State: state, TimeUnix: r.time()}
	case 6:
		return &command.RemoveNode{NodeId: r.nodeID()}
	case 7, 8:
		return r.setInstances()
	case 9:
		return r.setResources()
	case 10, 11:
		return r.tokenCommand()
	case 12:
		return r.levelCommand()
	case 13, 14:
		return r.reap()
	case 15:
		return r.accessCommand()
	case 16:
		return r.changeAuthority()
	case 17:
		keys := &apiv1.GossipKeys{Sealed: [][]byte{[]byte(r.pick("key", "a", "b"))}}
		from := r.one.Read().GossipKeys(nil).GetModifyIndex()
		return &command.SetGossipKeys{Keys: keys, FromIndex: from + r.few("behind")}
	case 18:
		return r.bringBack()
	}
	recovery := r.one.Read().Cluster(nil).Recovery + uint32(r.few("recovery"))
	return &command.Recover{Recovery: recovery, ServerIds: []string{"s1", r.pick("server", "s1", "s2")}, TimeUnix: r.time()}
}

func (r *random) levelCommand() proto.Message {
	if rapid.Bool().Draw(r.T, "raise") {
		return &command.SetFeatureLevel{Level: rapid.Uint32Range(0, 3).Draw(r.T, "level")}
	}
	s := server(r.pick("server", "s1", "s2"))
	s.FeatureLevel = rapid.SampledFrom([]uint32{2, 2, 3, 1}).Draw(r.T, "level")
	s.Version = r.pick("version", "1.0.0", "1.1.0")
	return &command.UpdateServer{Server: s}
}

func (r *random) reap() proto.Message {
	c := &command.Reap{
		TimeUnix: r.time(), TokenIds: []string{r.token()}, AccessTokenIds: []string{r.pick("access token", "a", "b")},
		DeadBeforeUnix: r.time(), KeepAuditRecords: uint32(r.few("keep")),
	}
	if rapid.Bool().Draw(r.T, "hosts") {
		c.NodeIds = []string{r.nodeID(), r.nodeID()}
	}
	return c
}

// bringBack brings back an earlier state, or the first part of it, or goes on.
func (r *random) bringBack() proto.Message {
	c := &command.RestoreState{Id: "r", Last: true, TimeUnix: r.time()}
	if parts := r.one.Read().staged(); len(parts) == 1 && r.rest != nil {
		c.Offset, c.Data = uint64(len(parts[0].Data)), r.rest
	} else if len(r.past) > 0 {
		var b bytes.Buffer
		if _, err := (&Snapshot{rapid.SampledFrom(r.past).Draw(r.T, "past")}).WriteTo(&b); err != nil {
			r.Fatal(err)
		}
		c.Data, r.rest = b.Bytes(), nil
		if rapid.Bool().Draw(r.T, "in parts") {
			c.Data, r.rest, c.Last = c.Data[:100], c.Data[100:], false
		}
	}
	return c
}

func (r *random) accessCommand() proto.Message {
	id := r.pick("access token", "a", "b")
	if rapid.Bool().Draw(r.T, "revoke") {
		return &command.RemoveAccessToken{Id: id}
	}
	token := accessToken(id)
	token.ExpiresUnix = rapid.SampledFrom([]int64{0, now + 3, now + 6}).Draw(r.T, "expires")
	return &command.PutAccessToken{Token: token}
}

func (r *random) changeAuthority() proto.Message {
	there := r.one.Read().Authority(nil)
	next := rotating(there)
	next.Rotation.Phase = apiv1.Rotation_Phase(rapid.IntRange(0, 3).Draw(r.T, "phase"))
	return &command.ChangeAuthority{Authority: next, FromIndex: there.ModifyIndex + r.few("behind")}
}

// few is mostly 0 or 1.
func (r *random) few(what string) uint64 {
	return rapid.SampledFrom([]uint64{0, 0, 0, 1, 1, 2, 3}).Draw(r.T, what)
}

func (r *random) tokenCommand() proto.Message {
	if rapid.Bool().Draw(r.T, "revoke") {
		return &command.RemoveToken{Id: r.token()}
	}
	return &command.PutToken{Token: &apiv1.Token{
		Id: r.token(), SecretHash: sum('t'), ExpiresUnix: now + 5,
		Server: rapid.Bool().Draw(r.T, "for servers"), Reusable: rapid.Bool().Draw(r.T, "reusable"),
		AllowedServices: rapid.SampledFrom([][]string{nil, {"a*"}, {"b", "c"}}).Draw(r.T, "services"),
		AllowedNames:    rapid.SampledFrom([][]string{nil, {"vm1", "server-s2"}}).Draw(r.T, "names"),
	}}
}

func (r *random) setInstances() *command.SetInstances {
	c := &command.SetInstances{NodeId: r.nodeID()}
	for i := range rapid.IntRange(0, 3).Draw(r.T, "put") {
		x := instance(fmt.Sprintf("i%d", i), r.service())
		x.Port = rapid.SampledFrom([]uint32{80, 80, 80, 80, 81, 81, 0}).Draw(r.T, "port")
		c.Put = append(c.Put, x)
	}
	if rapid.Bool().Draw(r.T, "remove") {
		c.Remove = []string{r.pick("id", "i1", "i3", "i4")}
	}
	return c
}

func (r *random) setResources() *command.SetResources {
	c := &command.SetResources{}
	for range rapid.IntRange(0, 2).Draw(r.T, "put") {
		x := rapid.SampledFrom([]*apiv1.Resource{
			serviceResource(r.service()), route(r.pick("name", "x", "y"), r.service()),
			policy(r.pick("name", "x", "y"), r.service()), meshResource(rapid.Int64Range(1, 2).Draw(r.T, "ttl")),
		}).Draw(r.T, "resource")
		x.Version = rapid.SampledFrom([]uint64{0, 0, 0, r.index}).Draw(r.T, "version")
		c.Put = append(c.Put, x)
	}
	if rapid.Bool().Draw(r.T, "remove") {
		c.Remove = unset(r.pick("kind", "service", "route", "policy", "mesh"), r.pick("name", "x", "y", "a", "mesh")).Remove
		c.Remove[0].Version = r.few("version")
	}
	return c
}

func (r *random) pick(what string, from ...string) string {
	return rapid.SampledFrom(from).Draw(r.T, what)
}

func (r *random) nodeID() string { return r.pick("node", "n1", "n1", "n1", "n2", "n2", "n3", "m1") }
func (r *random) service() string {
	return r.pick("service", "a", "a", "a", "aa", "aa", "aa", "b", "b", "c", "B")
}
func (r *random) token() string { return r.pick("token", "t0", "t0", "t1", "t1", "t2", "t3", "") }
func (r *random) time() int64   { return now + rapid.Int64Range(0, 6).Draw(r.T, "time") }

func snapshot(t interface{ Fatal(...any) }, db *DB) []byte {
	var b bytes.Buffer
	n, err := db.Snapshot().WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatal(n, b.Len(), err)
	}
	return b.Bytes()
}
