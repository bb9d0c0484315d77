package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
)

var errNoLeader = errors.New("there is no leader")

// Consul is servers of Consul. A write is a PUT of a key over HTTP.
type consul struct {
	bin string
	n   int
}

func (c *consul) start(ctx context.Context, dir string, n int) (servers []*Process, err error) {
	c.n = n
	for i := range n {
		a := address(1, i)
		p := newProcess(filepath.Join(dir, fmt.Sprint("s", i, ".log")), c.bin, "agent", "-server", fmt.Sprint("-bootstrap-expect=", n), "-disable-host-node-id",
			"-node", fmt.Sprint("s", i), "-bind", a, "-client", a, "-data-dir", filepath.Join(dir, fmt.Sprint("s", i)),
			"-retry-join", address(1, 0), "-retry-join", address(1, n-1), "-dns-port", "-1", "-serf-wan-port", "-1",
			// Its limit of connections of one client address is meant for agents.
			"-hcl", "limits { http_max_conns_per_client = 4096 }")
		if err := p.Start(); err != nil {
			return servers, err
		}
		servers = append(servers, p)
	}
	return servers, nil
}

func (c *consul) leader(ctx context.Context, i int) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:8500/v1/status/leader", address(1, i)), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var leader string
	if err := json.NewDecoder(response.Body).Decode(&leader); err != nil {
		return 0, err
	}
	for j := range c.n {
		if strings.HasPrefix(leader, address(1, j)+":") {
			return j, nil
		}
	}
	return 0, errNoLeader
}

func (c *consul) dial(i int) (Writer, error) {
	return &consulWriter{base: fmt.Sprintf("http://%s:8500/v1/kv/", address(1, i)), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}, nil
}

type consulWriter struct {
	base   string
	client *http.Client
}

func (w *consulWriter) Put(ctx context.Context, key, value string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, w.base+key, strings.NewReader(value))
	if err != nil {
		return err
	}
	response, err := w.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || strings.TrimSpace(string(answer)) != "true" {
		return fmt.Errorf("consul answered %s: %s", response.Status, answer)
	}
	return nil
}

func (w *consulWriter) Close() error {
	w.client.CloseIdleConnections()
	return nil
}
