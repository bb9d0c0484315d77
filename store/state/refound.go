package state

import (
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A Refounding says how a mesh goes on whose servers are all lost.
type Refounding struct {
	// Index of the state from now on, above all that the mesh has ever had.
	Index uint64
	// Server is the only one at first.
	Server *apiv1.Server
	// GossipKeys take the place of those that lost servers knew; nil for none.
	GossipKeys *apiv1.GossipKeys
	// Record of it, for the audit; nil for none.
	Record *apiv1.AuditRecord
	// TimeUnix of it.
	TimeUnix int64
}

// Refound writes the snapshot's state as it is after all servers were lost: the
// recovery is counted, so that none of them can come back; hosts are lost until
// their agents come; and there are no tokens, for one that was used or revoked
// since must not be good again.
func (s *Snapshot) Refound(w io.Writer, r Refounding) error {
	out := newRecordWriter(w)
	out.header(r.Index)
	s.records(func(row *Record) {
		for _, row := range r.rows(row) {
			out.record(row)
		}
	})
	if r.Record != nil {
		record := proto.CloneOf(r.Record)
		record.Index = r.Index
		out.record(&Record{Row: &Record_Audit{record}})
	}
	if r.GossipKeys != nil {
		keys := proto.CloneOf(r.GossipKeys)
		keys.ModifyIndex = r.Index
		out.record(&Record{Row: &Record_GossipKeys{keys}})
	}
	if err := out.finish(); err != nil {
		return fmt.Errorf("writing the state of a mesh that is founded anew: %w", err)
	}
	return nil
}

// rows are those that take the place of one in the snapshot.
func (r Refounding) rows(was *Record) []*Record {
	switch row := was.Row.(type) {
	case *Record_Marks:
		marks := proto.CloneOf(row.Marks)
		marks.RestoredIndex = r.Index
		return []*Record{{Row: &Record_Marks{marks}}}
	case *Record_Cluster:
		cluster := proto.CloneOf(row.Cluster)
		cluster.Recovery++
		server := proto.CloneOf(r.Server)
		server.CreateIndex = r.Index
		return []*Record{{Row: &Record_Cluster{cluster}}, {Row: &Record_Server{server}}}
	case *Record_Node:
		return []*Record{{Row: &Record_Node{r.lost(row.Node)}}}
	case *Record_Server, *Record_Token, *Record_AccessToken, *Record_GossipKeys, *Record_StagedPart:
		return nil
	}
	return []*Record{was}
}

func (r Refounding) lost(n *apiv1.Node) *apiv1.Node {
	if n.State != apiv1.NodeState_NODE_STATE_ALIVE {
		return n
	}
	n = proto.CloneOf(n)
	n.State, n.LeaseServer, n.StateUnix, n.ModifyIndex = apiv1.NodeState_NODE_STATE_LOST, "", r.TimeUnix, r.Index
	return n
}
