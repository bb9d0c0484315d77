package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/pki"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/state"
)

// renewRetry is how long after a renewal the next one is tried at the soonest: it
// may have failed, or the authority may end so soon that what it signs is due at
// once.
const renewRetry = time.Minute

// othersTime is how long after this server's certificate the others' have been
// renewed, too: then it is time for new connections to them.
const othersTime = 15 * time.Second

// A keeper holds the server's own certificate, the trust anchors and the mesh's
// authority, keeps copies of them on disk and renews the certificate in time.
type keeper struct {
	dir    dataDir
	member *member
	log    *slog.Logger
	// links are the connections whose peers' certificates must hold under the
	// trust anchors of the day.
	links *grpcx.Links

	cert  atomic.Pointer[tls.Certificate]
	roots atomic.Pointer[x509.CertPool]

	soonest time.Time // for the next renewal; of run alone, like
	settles time.Time // when to replace connections to other servers; zero is never

	mu        sync.Mutex
	stored    *apiv1.Authority // nil until the first replication
	authority *ca.Authority
}

// newKeeper takes what is on disk. A certificate that is due is renewed at
// once, before anybody is shown it.
func newKeeper(dir dataDir, m *member, log *slog.Logger) (*keeper, error) {
	k := &keeper{dir: dir, member: m, log: log, links: grpcx.NewLinks()}
	if err := k.setChain(m.chain); err != nil {
		return nil, err
	}
	if err := k.setRoots(m.roots); err != nil {
		return nil, err
	}
	if m.authority != nil {
		if err := k.adopt(m.authority); err != nil {
			return nil, err
		}
	}
	if time.Until(k.due()) > 0 {
		return k, nil
	}
	if err := k.renew(); err != nil && !time.Now().Before(k.cert.Load().Leaf.NotAfter) {
		return nil, fmt.Errorf("this server's certificate expired, and it cannot make a new one: move %s away and join again with a new token: %w", dir, err)
	}
	return k, nil
}

// TLS is what the server shows on connections, and whom it trusts.
func (k *keeper) TLS() grpcx.TLS {
	return grpcx.TLS{TrustDomain: k.member.TrustDomain, Roots: k.roots.Load, Certificate: k.cert.Load, Links: k.links}
}

// Authority is the mesh's certificate authority as it is now.
func (k *keeper) Authority() (*ca.Authority, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.authority == nil {
		return nil, errors.New("this server has not got the mesh's certificate authority yet: try again in a few seconds")
	}
	return k.authority, nil
}

// Standing is how far this server has taken over the mesh's authority. Its own
// certificate is renewed along with it, and before that it counts as being one
// behind.
func (k *keeper) Standing() (s ca.Standing) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.authority == nil {
		return s
	}
	s = ca.Standing{Index: k.authority.Index(), Generation: k.authority.Generation()}
	if s.Generation > 0 && !k.current() {
		s.Generation--
	}
	return s
}

// run follows the authority in the state and renews the certificate until ctx
// ends. reconnect replaces the connections to other servers.
func (k *keeper) run(ctx context.Context, local func() *state.Txn, reconnect func()) {
	for ctx.Err() == nil {
		var ws state.WatchSet
		if a := local().Authority(&ws); a != nil {
			k.follow(a)
		}
		k.await(ctx, &ws)
		if !k.settles.IsZero() && !time.Now().Before(k.settles) {
			k.settles = time.Time{}
			reconnect()
		}
	}
}

// await blocks until ws wakes, or until it is time for something: the certificate
// is renewed here.
func (k *keeper) await(ctx context.Context, ws *state.WatchSet) {
	due := k.due()
	if due.Before(k.soonest) {
		due = k.soonest
	}
	until := due
	if !k.settles.IsZero() && k.settles.Before(due) {
		until = k.settles
	}
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	if ws.Wait(wait) == nil || ctx.Err() != nil || time.Now().Before(due) {
		return
	}
	k.tryRenew()
}

func (k *keeper) tryRenew() {
	k.soonest = time.Now().Add(renewRetry)
	if err := k.renew(); err != nil {
		k.log.Error("this server's certificate could not be renewed", "expires", k.cert.Load().Leaf.NotAfter, "error", err)
		return
	}
	k.settles = time.Now().Add(othersTime)
}

// due is when the certificate is to be renewed: after two thirds of its life, and
// at once when another authority signs by now.
func (k *keeper) due() time.Time {
	leaf := k.cert.Load().Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

// follow takes over a changed authority. The certificate is renewed when it is
// not what the authority would sign now.
func (k *keeper) follow(a *apiv1.Authority) {
	k.mu.Lock()
	same := proto.Equal(k.stored, a)
	k.mu.Unlock()
	if same {
		return
	}
	roots := ca.Roots(a)
	if err := errors.Join(k.dir.writeAuthority(a), k.setRoots(roots), k.dir.writeRoots(roots), k.adopt(a)); err != nil {
		k.log.Error("the mesh's certificate authority could not be taken over", "error", err)
		return
	}
	k.mu.Lock()
	current := k.current()
	k.mu.Unlock()
	if !current {
		k.tryRenew()
	}
	if cut := k.links.Recheck(k.roots.Load()); cut > 0 {
		k.log.Info("closed connections of peers whose certificates are trusted no more", "connections", cut)
	}
}

// current reports whether the certificate hangs on what signs now; the keeper is
// locked.
func (k *keeper) current() bool {
	return slices.EqualFunc(k.cert.Load().Certificate[1:], k.authority.Above(), bytes.Equal)
}

func (k *keeper) adopt(a *apiv1.Authority) error {
	authority, err := k.member.vault().Open(a)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stored, k.authority = a, authority
	return nil
}

// renew makes a new certificate for the key that the others know.
func (k *keeper) renew() error {
	authority, err := k.Authority()
	if err != nil {
		return err
	}
	signed, err := k.member.signSelf(authority)
	if err != nil {
		return err
	}
	if err := k.dir.writeChain(signed.Chain); err != nil {
		return err
	}
	k.log.Info("renewed this server's certificate", "generation", signed.Generation)
	return k.setChain(signed.Chain)
}

func (k *keeper) setChain(chain [][]byte) error {
	cert, err := pki.Certificate(chain, k.member.key)
	if err != nil {
		return fmt.Errorf("this server's certificate: %w", err)
	}
	k.cert.Store(cert)
	return nil
}

func (k *keeper) setRoots(roots [][]byte) error {
	pool, err := pki.Pool(roots...)
	if err != nil {
		return err
	}
	k.roots.Store(pool)
	return nil
}
