package jointoken

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() *Token {
	t := &Token{
		Addresses: []string{"10.0.0.1:7300", "[2001:db8::1]:7300"}, ID: "k7f2", TrustDomain: "mesh-1a2b3c",
		Expires: time.Unix(1_900_000_000, 0), Server: true,
	}
	for i := range t.Pin {
		t.Pin[i] = byte(i)
	}
	copy(t.Secret[:], "sixteen bytes ok")
	return t
}

func TestTokenComesBackAsItWent(t *testing.T) {
	want := sample()
	for _, text := range []string{want.Encode(), "  " + want.Encode() + "\n"} {
		got, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("parsed token differs (-want +got):\n%s", diff)
		}
	}
}

func TestTokenDoesNotPrintItsSecret(t *testing.T) {
	token := sample()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("joining", "token", token)
	for _, text := range []string{fmt.Sprintf("%v %s", token, token), log.String()} {
		if strings.Contains(text, "sixteen") || strings.Contains(text, prefix) || !strings.Contains(text, token.ID) {
			t.Errorf("token prints as %q", text)
		}
	}
}

func encode(json string) string { return prefix + base64.RawURLEncoding.EncodeToString([]byte(json)) }

func TestParseRefuses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		token, err := Parse(text)
		if err == nil {
			t.Fatalf("Parse(%q) gave %+v, want an error with %q", text, token, want)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %q does not say %q", text, err, want)
		}
	}
	good := sample().Encode()
	const pin, secret = `AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=`, `c2l4dGVlbiBieXRlcyBvaw==`
	with := func(addrs, id, td string) string {
		return encode(fmt.Sprintf(`{"v":1,"addrs":[%s],"pin":%q,"id":%q,"secret":%q,"td":%q,"exp":1}`, addrs, pin, id, secret, td))
	}

	f("", "empty")
	f("hello", "no join token")
	f("mesh2.abc", "another version")
	f(good[:len(good)-3], "damaged")
	f(good[:40]+"\n"+good[40:], "line break after character 40")
	f(good+"=", "damaged")
	f(prefix+strings.Repeat("A", maxText), "copy it alone")
	f(encode(`{"v":1}{"v":1}`), "follows its end")
	f(encode(`{"v":1,"new":2}`), "newer version")
	f(encode(`{"v":2}`), "version 2")
	f(encode(`{"v":1,"pin":"AAEC"}`), "pin")
	f(encode(`{"v":1,"pin":"`+pin+`","secret":"AAEC"}`), "secret")
	f(with(`"h:1"`, "", "d"), "its id")
	f(with(`"h:1"`, "i", "D"), "trust domain")
	f(with(``, "i", "d"), "names 0 servers")
	f(with(`"h"`, "i", "d"), "host:port")
	f(with(`":7300"`, "i", "d"), "host:port")
	f(with(`"h:0"`, "i", "d"), "no port")
	f(with(`"h:70000"`, "i", "d"), "no port")
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Encode())
	f.Add(encode(`{"v":1}`))
	f.Add("mesh1.")
	f.Add("mesh1.\x00")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(token.Encode())
		if err != nil {
			t.Fatalf("%q was read, but not what it encodes to: %v", text, err)
		}
		if diff := cmp.Diff(token, again); diff != "" {
			t.Errorf("token changed on the way (-first +second):\n%s", diff)
		}
	})
}
