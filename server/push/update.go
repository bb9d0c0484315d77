package push

import (
	"google.golang.org/protobuf/encoding/protowire"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
)

// A cursor is how far one agent's slice has come.
type cursor struct {
	version   uint64 // 0 when the agent holds nothing to build upon
	held      scope
	limited   bool   // the agent knows that it does not get everything
	asked     uint64 // the agent's interest when it was told so
	mesh      uint64 // of the mesh's defaults
	authority uint64
	started   bool // something was sent on this stream
}

// An update leads an agent from one version of its slice to another.
type update struct {
	version          uint64
	snapshot, scoped bool
	fields           [][]byte // of a SliceUpdate
	small            []byte   // more of them
}

// update gives what leads from the cursor to the edition, and the cursor after
// it; the update is nil when there is nothing to tell. The first update of a
// stream is always sent, so that the agent knows that it is up to date.
func (e *edition) update(v view, at cursor) (*update, cursor) {
	if !e.leadsFrom(at.version) {
		at.version = 0
	}
	want, limited := e.scope(v, at)
	next := cursor{version: e.version, held: want, limited: limited, asked: at.asked, started: true}
	if limited && !at.limited {
		next.asked = v.interest
	}
	u := &update{version: e.version, snapshot: at.version == 0, scoped: limited}
	c := e.since(at.version)
	switch {
	case !v.parts:
		u.fields = e.plain(c)
	case want == nil && (at.held == nil || at.version == 0):
		u.fields = c.all()
	default:
		u.fields = e.scoped(c, at.held, want)
	}
	changed := !at.started || u.snapshot || len(u.fields)+len(c.nodes) > 0 || limited != at.limited
	u.small, next.mesh, next.authority = e.rest(at)
	if !changed && len(u.small) == 0 {
		return nil, next
	}
	u.fields = append(u.fields[:len(u.fields):len(u.fields)], c.nodes...)
	return u, next
}

// rest is what concerns all of the mesh.
func (e *edition) rest(at cursor) (fields []byte, meshVersion, authorityVersion uint64) {
	config, version := e.txn.MeshConfig(nil)
	authority := e.txn.Authority(nil)
	rest := &apiv1.SliceUpdate{}
	if !at.started || version != at.mesh {
		rest.Mesh = orEmpty(config)
	}
	if !at.started || authority.GetModifyIndex() != at.authority {
		rest.Roots, rest.AuthorityGeneration = trusted(authority), authority.GetGeneration()
	}
	return encoded(rest), version, authority.GetModifyIndex()
}

// plain tells of whole services to agents that know no parts.
func (e *edition) plain(c *changes) (fields [][]byte) {
	for _, s := range c.services {
		fields = append(fields, field(updateServices, ServiceSlice(e.txn, s)))
	}
	return fields
}

// partSize is about how much of an update goes into one message: heartbeats pass
// between messages, also where a link is slow.
const partSize = 128 << 10

// messages gives the update as what is sent to the agent, in several messages if
// it takes parts.
func (u *update) messages(parts bool) (list []grpcx.Encoded) {
	fields := append([][]byte{u.small}, u.fields...)
	for {
		n, size := 0, 0
		for n < len(fields) && (n == 0 || !parts || size+len(fields[n]) <= partSize) {
			size += len(fields[n])
			n++
		}
		list = append(list, u.message(fields[:n], size, n < len(fields)))
		if fields = fields[n:]; len(fields) == 0 {
			return list
		}
	}
}

// message is a ServerMessage with a SliceUpdate of these fields.
func (u *update) message(fields [][]byte, size int, more bool) grpcx.Encoded {
	var head []byte
	head = protowire.AppendTag(head, updateVersion, protowire.VarintType)
	head = protowire.AppendVarint(head, u.version)
	head = appendFlag(head, updateSnapshot, u.snapshot)
	head = appendFlag(head, updateScoped, u.scoped)
	head = appendFlag(head, updateMore, more)
	frame := protowire.AppendTag(nil, messageSlice, protowire.BytesType)
	frame = protowire.AppendVarint(frame, uint64(len(head)+size))
	return append(grpcx.Encoded{append(frame, head...)}, fields...)
}
