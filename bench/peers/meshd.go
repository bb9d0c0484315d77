package peers

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server"
)

// Meshd is servers of meshd. A write is a resource of kind service,
// validated, replicated and audited.
type meshd struct {
	bin, dir string
}

func (m *meshd) config(i int) server.Config {
	dir := filepath.Join(m.dir, fmt.Sprint("s", i))
	a := address(0, i)
	return server.Config{
		Name: fmt.Sprint("s", i), DataDir: filepath.Join(dir, "data"),
		Listen: a + ":7300", Advertise: a + ":7300", GossipListen: a + ":7301", GossipAdvertise: a + ":7301",
		HTTP: a + ":7302", Socket: m.socket(i),
		Network: netx.System{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (m *meshd) socket(i int) string { return filepath.Join(m.dir, fmt.Sprint("s", i), "server.sock") }

func (m *meshd) start(ctx context.Context, dir string, n int) (servers []*Process, err error) {
	m.dir = dir
	for i := range n {
		p, err := m.prepare(ctx, i)
		if err == nil {
			err = p.Start()
		}
		if err != nil {
			return servers, err
		}
		servers = append(servers, p)
	}
	return servers, nil
}

// prepare makes server i a member: the first founds the mesh, the others join it.
func (m *meshd) prepare(ctx context.Context, i int) (*Process, error) {
	cfg := m.config(i)
	dir := filepath.Dir(cfg.DataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "server.yaml")
	text := fmt.Sprintf("name: %s\ndata_dir: %s\nlisten: %s\nadvertise: %s\ngossip_listen: %s\ngossip_advertise: %s\nhttp: %s\nsocket: %s\n",
		cfg.Name, cfg.DataDir, cfg.Listen, cfg.Advertise, cfg.GossipListen, cfg.GossipAdvertise, cfg.HTTP, cfg.Socket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := newProcess(filepath.Join(dir, "log"), m.bin, "server", "--config", file)
	if i == 0 {
		return p, server.Init(cfg, server.InitOptions{ClusterName: "bench"})
	}
	token, err := m.token(ctx)
	if err != nil {
		return nil, err
	}
	return p, server.Join(ctx, cfg, token)
}

// token asks the first server for a token to join as a server.
func (m *meshd) token(ctx context.Context) (token string, err error) {
	err = until(ctx, func(ctx context.Context) error {
		c, err := client.Dial(ctx, m.socket(0))
		if err != nil {
			return err
		}
		defer c.Close()
		reply, err := c.Admin().CreateToken(ctx, &apiv1.CreateTokenRequest{Server: true})
		token = reply.GetToken()
		return err
	})
	return token, err
}

func (m *meshd) leader(ctx context.Context, i int) (int, error) {
	c, err := client.Dial(ctx, m.socket(i))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	reply, err := c.Admin().Status(ctx, &apiv1.StatusRequest{})
	if err != nil {
		return 0, err
	}
	for _, s := range reply.Servers {
		var j int
		if _, err := fmt.Sscanf(s.Name, "s%d", &j); err == nil && s.Leader {
			return j, nil
		}
	}
	return 0, errNoLeader
}

func (m *meshd) dial(i int) (Writer, error) { return &meshdWriter{socket: m.socket(i)}, nil }

// A meshdWriter connects when it is first used, for a server may be away.
type meshdWriter struct {
	socket string
	client *client.Client
}

func (w *meshdWriter) Put(ctx context.Context, key, value string) (err error) {
	if w.client == nil {
		if w.client, err = client.Dial(ctx, w.socket); err != nil {
			w.client = nil
			return err
		}
	}
	reply, err := w.client.Admin().Apply(ctx, &apiv1.ApplyRequest{Resources: []*apiv1.Resource{{
		Name: key,
		Spec: &apiv1.Resource_Service{Service: &apiv1.Service{Subsets: map[string]*apiv1.Subset{
			"v": {Match: map[string]string{"meta.value": value}},
		}}},
	}}})
	if err == nil && len(reply.Problems) > 0 {
		err = fmt.Errorf("the resource was refused: %s", reply.Problems[0].Message)
	}
	return err
}

func (w *meshdWriter) Close() error {
	if w.client == nil {
		return nil
	}
	return w.client.Close()
}
