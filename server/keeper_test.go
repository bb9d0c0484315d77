package server

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/store/state"
)

// What an authority signs in its last minutes is due for renewal at once, which
// must not make the server renew without a pause.
func TestRenewalUnderADyingAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := dataDir(t.TempDir())
		c := Config{Name: "s1", DataDir: string(dir), Listen: ":7300", Advertise: "10.0.0.1:7300", GossipListen: ":7301", GossipAdvertise: "10.0.0.1:7301", Logger: slog.New(slog.DiscardHandler)}
		if err := Init(c, InitOptions{}); err != nil {
			t.Fatal(err)
		}
		m, err := dir.read("")
		if err != nil {
			t.Fatal(err)
		}
		m.authority = m.init.Authority
		time.Sleep(365*24*time.Hour - 2*time.Minute)
		k, err := newKeeper(dir, m, c.Logger)
		if err != nil {
			t.Fatal(err)
		}
		if time.Until(k.due()) > 0 {
			t.Fatal("the certificate is not due at once")
		}
		db := state.New()
		first := k.cert.Load()
		ctx, cancel := context.WithTimeout(t.Context(), renewRetry/2)
		defer cancel()
		k.run(ctx, db.Read, func() {})
		if k.soonest.IsZero() || k.cert.Load() == first {
			t.Error("nothing was renewed")
		}
	})
}
