package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"unicode"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/version"
)

// maxOutput is how many bytes of an answer are kept.
const maxOutput = 4 << 10

func newProbe(network netx.Network, service netip.AddrPort, spec *apiv1.CheckSpec) probe {
	if path := spec.GetHttp(); path != "" {
		return probeHTTP(network, service, path)
	}
	address, err := mesh.CheckTarget(spec.GetTcp(), service.Port())
	if err != nil {
		return func(context.Context) (string, error) { return "", err }
	}
	return probeTCP(network, address.String())
}

// probeTCP is content when a connection can be opened.
func probeTCP(network netx.Network, address string) probe {
	return func(ctx context.Context) (string, error) {
		c, err := network.DialContext(ctx, "tcp", address)
		if err != nil {
			return "", err
		}
		return "connected to " + address, c.Close()
	}
}

// probeHTTP is content with a status of 200 to 299. Redirects are answers, not
// ways to go: a check never leaves its host. Each ask opens a connection of its
// own, as a new caller would.
func probeHTTP(network netx.Network, service netip.AddrPort, path string) probe {
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, proto, _ string) (net.Conn, error) {
				return network.DialContext(ctx, proto, service.String())
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return func(ctx context.Context) (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service.String()+path, nil)
		if err != nil {
			return "", err
		}
		r.Header.Set("User-Agent", "meshd-check/"+version.Version())
		response, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxOutput))
		output := summary(response.Status, body)
		if response.StatusCode < 200 || response.StatusCode > 299 {
			return "", fmt.Errorf("%s", output)
		}
		return output, nil
	}
}

// summary is fit for one line of a log or a terminal.
func summary(status string, body []byte) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(body), "?"))
	text = strings.TrimSpace(status + ": " + strings.TrimSpace(text))
	text = strings.TrimSuffix(text, ":")
	return text[:min(len(text), maxOutput)]
}
