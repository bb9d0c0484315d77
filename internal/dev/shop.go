package dev

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// An app is a small service of the demo: a real listener on 127.0.0.1 that
// knows nothing of meshd.
type app struct {
	listener net.Listener
	close    func()
}

func (a app) port() uint32 { return uint32(a.listener.Addr().(*net.TCPAddr).Port) }

// An order is what the orders service answers.
type order struct {
	ID string `json:"id"`
	// Host is where the instance runs that answered.
	Host string `json:"host"`
	// Caller is who the mesh says is calling.
	Caller string `json:"caller"`
	// Entry is what the ledger, called over TCP, had to say.
	Entry string `json:"entry"`
}

// startOrders serves GET /orders/ID over HTTP, asking the ledger at the address
// given, and takes delay longer than it must.
func startOrders(host string, delay time.Duration, ledger string) (app, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("/orders/{id}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
		entry, err := askLedger(r.Context(), ledger, r.PathValue("id"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("content-type", "application/json")
		json.NewEncoder(w).Encode(order{ID: r.PathValue("id"), Host: host, Caller: r.Header.Get("meshd-client-id"), Entry: entry})
	})
	return startHTTP(mux)
}

// startWeb serves a page over HTTP that shows one order, asked for at the
// address of orders given.
func startWeb(client *http.Client, orders string) (app, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		o, err := getOrder(r.Context(), client, http.MethodGet, orders, "1")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "order %s from %s, asked for by %s: %s\n", o.ID, o.Host, o.Caller, o.Entry)
	})
	return startHTTP(mux)
}

func startHTTP(h http.Handler) (app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return app{}, err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	return app{l, func() { s.Close(); <-done }}, nil
}

// startLedger serves a line protocol over TCP: the name of an order in, what is
// known of it out.
func startLedger() (app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return app{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { serveLedger(ctx, c) })
		}
	})
	return app{l, func() { cancel(); l.Close(); conns.Wait() }}, nil
}

func serveLedger(ctx context.Context, c net.Conn) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := fmt.Fprintf(c, "order %s is paid\n", lines.Text()); err != nil {
			return
		}
	}
}

func askLedger(ctx context.Context, address, id string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("calling the ledger: %w", err)
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	if _, err := fmt.Fprintln(c, id); err != nil {
		return "", fmt.Errorf("asking the ledger: %w", err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("reading the ledger's answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// A refusedError is an answer that came from the mesh or the service instead of
// an order.
type refusedError struct {
	status int
	code   string // meshd-error
}

func (e *refusedError) Error() string {
	if e.code == "" {
		return fmt.Sprintf("status %d", e.status)
	}
	return fmt.Sprintf("status %d, meshd-error: %s", e.status, e.code)
}

func getOrder(ctx context.Context, client *http.Client, method, address, id string) (order, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+"/orders/"+id, nil)
	if err != nil {
		return order{}, err
	}
	response, err := client.Do(r)
	if err != nil {
		return order{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return order{}, err
	}
	if response.StatusCode != http.StatusOK {
		return order{}, &refusedError{response.StatusCode, response.Header.Get("meshd-error")}
	}
	var o order
	if err := json.Unmarshal(body, &o); err != nil {
		return order{}, errors.Join(fmt.Errorf("decoding %q", body), err)
	}
	return o, nil
}
