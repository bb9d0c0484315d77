package state

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// FeatureLevel is what all servers are known to understand: 1 or more. What an
// entry means depends on nothing else than the entry, the tables and this.
func (t *Txn) FeatureLevel(ws *WatchSet) uint32 {
	return max(t.Cluster(ws).GetFeatureLevel(), 1)
}

// CheckLevel says why a command cannot be proposed yet, naming a server that
// does not know it. What an Audited wraps counts, too.
func (t *Txn) CheckLevel(msg proto.Message) error {
	if err := t.checkLevel(msg); err != nil {
		return err
	}
	if c, ok := msg.(*command.Audited); ok {
		if inner, err := command.Decode(c.Entry); err == nil {
			return t.checkLevel(inner)
		}
	}
	return nil
}

func (t *Txn) checkLevel(msg proto.Message) error {
	kind := command.TypeOf(msg)
	needs := command.LevelOf(kind)
	if kind == 0 || needs <= t.FeatureLevel(nil) {
		return nil
	}
	if s := t.behind(needs); s != nil {
		return refuse(command.Refusal_REFUSAL_FEATURE_LEVEL, "server %q runs meshd %s, which does not know %s: update that server", s.Name, versionOf(s), command.Name(msg))
	}
	return refuse(command.Refusal_REFUSAL_FEATURE_LEVEL, "the mesh is at feature level %d, and %s needs level %d: all servers know it, so the leader is about to raise it; try again", t.FeatureLevel(nil), command.Name(msg), needs)
}

// behind is a server that knows less than that level, nil when all know it.
func (t *Txn) behind(level uint32) *apiv1.Server {
	servers := t.Servers(nil)
	i := slices.IndexFunc(servers, func(s *apiv1.Server) bool { return levelOf(s) < level })
	if i < 0 {
		return nil
	}
	return servers[i]
}

// levelOf is 1 for a server that does not say: it is older than the question.
func levelOf(s *apiv1.Server) uint32 { return max(s.FeatureLevel, 1) }

func versionOf(s *apiv1.Server) string { return cmp.Or(s.Version, "of an unknown version") }

func (w *writer) setFeatureLevel(c *command.SetFeatureLevel) error {
	if c.Level <= w.FeatureLevel(nil) {
		return nil
	}
	if s := w.behind(c.Level); s != nil {
		return refuse(command.Refusal_REFUSAL_FEATURE_LEVEL, "server %q runs meshd %s, which does not know feature level %d: update that server", s.Name, versionOf(s), c.Level)
	}
	cluster := proto.CloneOf(w.Cluster(nil))
	cluster.FeatureLevel = c.Level
	w.put(clusterTable, cluster)
	return nil
}
