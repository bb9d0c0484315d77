package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/api/client"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
)

// A Catalogue is how many hosts there are to be, with how many instances each, of
// how many services in all.
type Catalogue struct{ Hosts, PerHost, Services int }

// Instances is how many there are in all.
func (c Catalogue) Instances() int { return c.Hosts * c.PerHost }

// A filler fills a cluster of one server and tells how many instances it has.
type filler interface {
	fill(ctx context.Context, c *Cluster, catalogue Catalogue) error
	instances(ctx context.Context) (int, error)
}

// Fill gives a cluster of one server a catalogue and leaves it stopped.
func (c *Cluster) Fill(ctx context.Context, catalogue Catalogue) error {
	f, ok := c.product.(filler)
	if !ok || c.Size() != 1 {
		return fmt.Errorf("%s with %d servers cannot be filled", c.Name, c.Size())
	}
	return f.fill(ctx, c, catalogue)
}

// WaitInstances waits until the server answers with that many instances, as of
// now.
func (c *Cluster) WaitInstances(ctx context.Context, n int) error {
	return until(ctx, func(ctx context.Context) error {
		have, err := c.product.(filler).instances(ctx)
		if err == nil && have != n {
			err = fmt.Errorf("it has %d instances of %d", have, n)
		}
		return err
	})
}

// fill writes to the stopped server's log what agents would have had written, and
// has a snapshot taken of it.
func (m *meshd) fill(ctx context.Context, c *Cluster, catalogue Catalogue) error {
	c.Server(0).Kill()
	s, err := server.New(m.config(0))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", m.config(0).Listen)
	if err != nil {
		return err
	}
	db, err := store.Open(store.Config{
		ID: s.ID(), Address: m.config(0).Advertise, Dir: filepath.Join(m.config(0).DataDir, "raft"), Stream: layer{listener},
		Timing: store.Timing{SnapshotInterval: time.Second, SnapshotThreshold: 1000},
	})
	if err != nil {
		return err
	}
	if err := m.write(ctx, db, catalogue); err != nil {
		return fmt.Errorf("filling meshd: %w (%w)", err, db.Shutdown())
	}
	// The snapshot of it all is taken within two seconds of the last write.
	time.Sleep(5 * time.Second)
	return db.Shutdown()
}

type layer struct{ net.Listener }

func (layer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

func (m *meshd) write(ctx context.Context, db *store.Store, catalogue Catalogue) error {
	for !db.IsLeader() {
		time.Sleep(10 * time.Millisecond)
	}
	now := time.Now().Unix()
	if err := propose(ctx, db, &command.PutToken{Token: &apiv1.Token{Id: "fill", SecretHash: make([]byte, 32), Reusable: true, ExpiresUnix: now + 3600}}); err != nil {
		return err
	}
	return parallel(catalogue.Hosts, func(i int) error {
		id, name := fmt.Sprintf("node-%d", i), fmt.Sprintf("vm%d", i)
		key := sha256.Sum256([]byte(name))
		join := &command.PutNode{TokenId: "fill", TimeUnix: now, Node: &apiv1.Node{
			Id: id, Name: name, Address: hostAddress(i), InboundPort: 7443, KeyHash: key[:],
		}}
		if err := propose(ctx, db, join); err != nil {
			return err
		}
		set := &command.SetInstances{NodeId: id}
		for j := range catalogue.PerHost {
			set.Put = append(set.Put, &apiv1.Instance{
				NodeId: id, Id: fmt.Sprint("i", j), Service: serviceName(catalogue, i, j), Port: uint32(8000 + j), Protocol: apiv1.Protocol_PROTOCOL_HTTP,
				Tags: []string{"v1"}, Meta: map[string]string{"version": "1"}, Weight: 1, Health: apiv1.Health_HEALTH_PASSING,
			})
		}
		return propose(ctx, db, set)
	})
}

func propose(ctx context.Context, db *store.Store, msg proto.Message) error {
	result, err := db.Apply(ctx, msg)
	if err == nil && result.Refusal != 0 {
		err = fmt.Errorf("%T was refused: %s", msg, result.Message)
	}
	return err
}

func (m *meshd) instances(ctx context.Context) (int, error) {
	c, err := client.Dial(ctx, m.socket(0))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	reply, err := c.Admin().Status(ctx, &apiv1.StatusRequest{})
	return int(reply.GetInstances()), err
}

// fill registers at the server's catalogue.
func (c *consul) fill(ctx context.Context, cluster *Cluster, catalogue Catalogue) error {
	err := parallel(catalogue.Instances(), func(n int) error {
		i, j := n/catalogue.PerHost, n%catalogue.PerHost
		return c.register(ctx, map[string]any{
			"Node": fmt.Sprintf("vm%d", i), "Address": hostAddress(i),
			"Service": map[string]any{"ID": fmt.Sprint("i", j), "Service": serviceName(catalogue, i, j), "Port": 8000 + j, "Tags": []string{"v1"}, "Meta": map[string]string{"version": "1"}},
			"Check":   map[string]any{"CheckID": fmt.Sprint("c", j), "ServiceID": fmt.Sprint("i", j), "Name": "check", "Status": "passing"},
		})
	})
	if err != nil {
		return fmt.Errorf("filling consul: %w", err)
	}
	// It looks every 30 s whether a snapshot is due.
	time.Sleep(40 * time.Second)
	cluster.Server(0).Kill()
	return nil
}

func (c *consul) register(ctx context.Context, registration any) error {
	body, err := json.Marshal(registration)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s:8500/v1/catalog/register", address(1, 0)), bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		return fmt.Errorf("consul answered %s: %s", response.Status, answer)
	}
	return nil
}

// instances counts the passing checks that fill has made, one an instance.
func (c *consul) instances(ctx context.Context) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:8500/v1/health/state/passing?consistent", address(1, 0)), nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var checks []struct{ ServiceID string }
	if err := json.NewDecoder(response.Body).Decode(&checks); err != nil {
		return 0, err
	}
	n := 0
	for _, check := range checks {
		if check.ServiceID != "" {
			n++
		}
	}
	return n, nil
}

func hostAddress(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }

func serviceName(c Catalogue, host, n int) string {
	return fmt.Sprintf("service-%d", (host*c.PerHost+n)%c.Services)
}

// parallel calls f with 0 to n-1, 64 at a time, until one fails.
func parallel(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	next := make(chan int)
	failed := make(chan error, 64)
	for range 64 {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer close(next)
	for i := range n {
		select {
		case next <- i:
		case err := <-failed:
			return err
		}
	}
	return nil
}
