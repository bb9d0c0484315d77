package server

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/atomicfile"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/store/command"
)

// Files of a data directory.
const (
	recordFile    = "server.json" // written last: with it the directory is complete
	keyFile       = "server.key"
	chainFile     = "server.crt"
	rootsFile     = "roots.crt"
	sealingFile   = "sealing.key"
	gossipFile    = "gossip.key"
	authorityFile = "authority.pb" // the mesh's authority as last seen, keys sealed
	initFile      = "init.entry"   // what makes the mesh, until it is made
	raftDir       = "raft"
)

// A record says which server a data directory belongs to.
type record struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	ClusterID   string `json:"cluster_id"`
	ClusterName string `json:"cluster_name"`
	TrustDomain string `json:"trust_domain"`
	// Recovery counts the recoveries from a lost majority that this server's state
	// has behind it. Servers with different counts are strangers.
	Recovery uint32 `json:"recovery,omitempty"`
	// GossipPeers are where to find the others at the very first start.
	GossipPeers []string `json:"gossip_peers,omitempty"`
}

// A member is what a server keeps on its own disk and shares with nobody but,
// of the keys, other servers.
type member struct {
	record
	key       *ecdsa.PrivateKey
	chain     [][]byte // DER
	roots     [][]byte // DER
	sealing   pki.SealingKey
	gossip    []gossip.Key         // the first for sending
	authority *apiv1.Authority     // nil until the first replication
	init      *command.InitCluster // nil unless this server is to make the mesh
}

type dataDir string

func (d dataDir) file(name string) string { return filepath.Join(string(d), name) }

// claim makes the directory and sees to it that nothing but leftovers, named by
// their files, is in it.
func (d dataDir) claim(leftovers ...string) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if err := os.Chmod(string(d), 0o700); err != nil {
		return fmt.Errorf("closing the data directory to other users: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("looking into the data directory: %w", err)
	}
	known := map[string]bool{"lost+found": true} // of a file system of its own
	for _, name := range leftovers {
		known[name] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			return d.occupied()
		}
	}
	return nil
}

// occupied says what is in the directory already, and the way out.
func (d dataDir) occupied() error {
	r, err := d.readRecord()
	if err != nil {
		return fmt.Errorf("%s is not empty, and no server's either: if nothing in it is needed, move it away and repeat", d)
	}
	return fmt.Errorf("%s holds server %s of mesh %s: start it with systemctl start meshd-server; to set this host up anew, stop the server and move the directory away",
		d, r.Name, r.ClusterName)
}

func (d dataDir) readRecord() (record, error) {
	var r record
	text, err := os.ReadFile(d.file(recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("reading %s: %w", d.file(recordFile), err)
	}
	return r, nil
}

func (d dataDir) write(m *member) error {
	steps := []func() error{
		func() error { return pki.WriteKey(d.file(keyFile), m.key) },
		func() error { return d.writeChain(m.chain) },
		func() error { return d.writeRoots(m.roots) },
		func() error { return pki.WriteSecret(d.file(sealingFile), m.sealing[:]) },
		func() error { return d.writeGossipKeys(m.gossip) },
		func() error { return d.writeAuthority(m.authority) },
		func() error { return d.writeInit(m.init) },
		func() error { return d.writeRecord(m.record) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d dataDir) writeChain(chain [][]byte) error {
	return pki.WriteCertificates(d.file(chainFile), chain)
}

func (d dataDir) writeRoots(roots [][]byte) error {
	return pki.WriteCertificates(d.file(rootsFile), roots)
}

// writeGossipKeys writes them one after the other.
func (d dataDir) writeGossipKeys(keys []gossip.Key) error {
	var b []byte
	for _, key := range keys {
		b = append(b, key[:]...)
	}
	return pki.WriteSecret(d.file(gossipFile), b)
}

func (d dataDir) readGossipKeys() (keys []gossip.Key, err error) {
	b, err := pki.ReadSecret(d.file(gossipFile))
	if err != nil {
		return nil, err
	}
	size := len(gossip.Key{})
	if len(b) == 0 || len(b)%size != 0 {
		return nil, fmt.Errorf("%s has %d bytes, and keys have %d each: it is damaged; restore it from another server", d.file(gossipFile), len(b), size)
	}
	for key := range slices.Chunk(b, size) {
		keys = append(keys, gossip.Key(key))
	}
	return keys, nil
}

func (d dataDir) writeAuthority(a *apiv1.Authority) error {
	if a == nil {
		return nil
	}
	b, err := proto.Marshal(a)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", authorityFile, err)
	}
	return pki.WriteSecret(d.file(authorityFile), b)
}

func (d dataDir) writeInit(c *command.InitCluster) error {
	if c == nil {
		return nil
	}
	entry, err := command.Encode(c)
	if err != nil {
		return err
	}
	return pki.WriteSecret(d.file(initFile), entry)
}

// forgetInit makes sure that this server never makes a mesh again.
func (d dataDir) forgetInit() error { return atomicfile.Remove(d.file(initFile)) }

// read gives the server that the directory belongs to. It refuses keys that
// other users can read. credentials is the folder of systemd's credentials, "" for
// none.
func (d dataDir) read(credentials string) (*member, error) {
	r, err := d.readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no server: make a mesh with meshd init, or join one with meshd join --server TOKEN", d)
	}
	if err != nil {
		return nil, err
	}
	m := &member{record: r}
	if m.key, err = pki.ReadKey(d.file(keyFile)); err != nil {
		return nil, err
	}
	if m.chain, err = pki.ReadCertificates(d.file(chainFile)); err != nil {
		return nil, err
	}
	if m.roots, err = pki.ReadCertificates(d.file(rootsFile)); err != nil {
		return nil, err
	}
	if m.sealing, err = d.readSealingKey(credentials); err != nil {
		return nil, err
	}
	if m.gossip, err = d.readGossipKeys(); err != nil {
		return nil, err
	}
	if m.authority, err = d.readAuthority(); err != nil {
		return nil, err
	}
	m.init, err = d.readInit()
	return m, err
}

// sealingCredential is the sealing key's name among systemd's credentials, where
// it need not be on the disk in the clear.
const sealingCredential = "meshd.sealing-key"

// readSealingKey prefers the credential to the file, which may be gone then.
func (d dataDir) readSealingKey(credentials string) (key pki.SealingKey, err error) {
	onDisk := d.readSecret(sealingFile, key[:])
	if credentials == "" {
		return key, onDisk
	}
	path := filepath.Join(credentials, sealingCredential)
	// Systemd sees to it that nobody else gets into the folder; the mode of the
	// file may say otherwise because of access control lists.
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return key, onDisk
	}
	if err != nil {
		return key, fmt.Errorf("reading the sealing key from systemd's credentials: %w", err)
	}
	defer clear(b)
	given, err := pki.ParseSealingKey(b)
	switch {
	case err != nil:
		return key, fmt.Errorf("reading the sealing key from systemd's credentials (%s): %w", path, err)
	case onDisk == nil && given != key:
		return key, fmt.Errorf("the sealing key in systemd's credential %s is another than that in %s: correct the credential, or remove the file if it is of another mesh", sealingCredential, d.file(sealingFile))
	case onDisk != nil && !errors.Is(onDisk, fs.ErrNotExist):
		return key, onDisk
	}
	return given, nil
}

func (d dataDir) readSecret(name string, into []byte) error {
	b, err := pki.ReadSecret(d.file(name))
	if err != nil {
		return err
	}
	if len(b) != len(into) {
		return fmt.Errorf("%s has %d bytes, not %d: it is damaged; restore it from another server", d.file(name), len(b), len(into))
	}
	copy(into, b)
	return nil
}

func (d dataDir) readAuthority() (*apiv1.Authority, error) {
	b, err := pki.ReadSecret(d.file(authorityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a := &apiv1.Authority{}
	if err := proto.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.file(authorityFile), err)
	}
	return a, nil
}

func (d dataDir) readInit() (*command.InitCluster, error) {
	b, err := pki.ReadSecret(d.file(initFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	msg, err := command.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.file(initFile), err)
	}
	c, ok := msg.(*command.InitCluster)
	if !ok {
		return nil, fmt.Errorf("reading %s: it is a log entry of another kind (%s)", d.file(initFile), command.Name(msg))
	}
	return c, nil
}
