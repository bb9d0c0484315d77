package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// Etcd is servers of etcd. A write is a Put over gRPC.
type etcd struct {
	bin string
	n   int
}

func (e *etcd) start(ctx context.Context, dir string, n int) (servers []*Process, err error) {
	e.n = n
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf("s%d=http://%s:2380", i, address(2, i)))
	}
	for i := range n {
		peer, client := fmt.Sprintf("http://%s:2380", address(2, i)), fmt.Sprintf("http://%s:2379", address(2, i))
		p := newProcess(filepath.Join(dir, fmt.Sprint("s", i, ".log")), e.bin, "--name", fmt.Sprint("s", i), "--data-dir", filepath.Join(dir, fmt.Sprint("s", i)),
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client,
			"--initial-cluster", strings.Join(members, ","), "--logger", "zap", "--log-level", "error")
		if err := p.Start(); err != nil {
			return servers, err
		}
		servers = append(servers, p)
	}
	return servers, nil
}

// leader compares the member that a server names as leader with what each says
// it is itself.
func (e *etcd) leader(ctx context.Context, i int) (int, error) {
	_, leader, err := e.status(ctx, i)
	if err != nil {
		return 0, err
	}
	for j := range e.n {
		if id, _, err := e.status(ctx, j); err == nil && id == leader {
			return j, nil
		}
	}
	return 0, errNoLeader
}

// status asks a server for its own id and the leader's.
func (e *etcd) status(ctx context.Context, i int) (self, leader uint64, err error) {
	w, err := e.dial(i)
	if err != nil {
		return 0, 0, err
	}
	defer w.Close()
	reply, err := w.(*etcdWriter).call(ctx, "/etcdserverpb.Maintenance/Status", nil)
	if err != nil {
		return 0, 0, err
	}
	header, _ := field(reply, 1)
	_, self = field(header, 2)
	_, leader = field(reply, 4)
	if leader == 0 {
		return 0, 0, errNoLeader
	}
	return self, leader, nil
}

func (e *etcd) dial(i int) (Writer, error) {
	conn, err := grpc.NewClient(address(2, i)+":2379", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.WaitForReady(true)))
	if err != nil {
		return nil, err
	}
	return &etcdWriter{conn}, nil
}

type etcdWriter struct{ conn *grpc.ClientConn }

// Put sends etcdserverpb.PutRequest: the key is field 1 and the value field 2.
func (w *etcdWriter) Put(ctx context.Context, key, value string) error {
	var request []byte
	request = protowire.AppendString(protowire.AppendTag(request, 1, protowire.BytesType), key)
	request = protowire.AppendString(protowire.AppendTag(request, 2, protowire.BytesType), value)
	_, err := w.call(ctx, "/etcdserverpb.KV/Put", request)
	return err
}

func (w *etcdWriter) call(ctx context.Context, method string, request []byte) (reply []byte, err error) {
	err = w.conn.Invoke(ctx, method, &request, &reply)
	return reply, err
}

func (w *etcdWriter) Close() error { return w.conn.Close() }

// Raw passes messages on as bytes.
type raw struct{}

func (raw) Name() string                  { return "proto" }
func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// field gives a field of an encoded message, as bytes or as a number.
func field(message []byte, number protowire.Number) (text []byte, n uint64) {
	for len(message) > 0 {
		num, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil, 0
		}
		message = message[size:]
		if num == number && kind == protowire.BytesType {
			text, _ = protowire.ConsumeBytes(message)
			return text, 0
		}
		if num == number && kind == protowire.VarintType {
			n, _ = protowire.ConsumeVarint(message)
			return nil, n
		}
		size = protowire.ConsumeFieldValue(num, kind, message)
		if size < 0 {
			return nil, 0
		}
		message = message[size:]
	}
	return nil, 0
}
