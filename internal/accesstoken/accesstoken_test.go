package accesstoken

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() *Token { return New("3f9a", "corp.example", [32]byte{1, 2, 3}) }

func TestRoundTrip(t *testing.T) {
	want := sample()
	got, err := Parse("  " + want.Encode() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if other := sample(); other.Secret == want.Secret {
		t.Error("two tokens have the same secret")
	}
}

func TestSecretsStayOut(t *testing.T) {
	token := sample()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("made", "token", token)
	fmt.Fprintf(&b, "%v %s", token, token)
	for _, secret := range []string{hex.EncodeToString(token.Secret[:]), base64.StdEncoding.EncodeToString(token.Secret[:]), token.Encode()} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("the secret shows in %s", &b)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	good := sample().Encode()
	pack := func(json string) string { return prefix + base64.RawURLEncoding.EncodeToString([]byte(json)) }
	f := func(text, want string) {
		t.Helper()
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gave %v, want %q", text, err, want)
		}
	}
	f("", "is empty")
	f("mesh1.abc", "is no access token")
	f(good[:len(good)-9], "damaged")
	f(good[:20]+"\n"+good[20:], "as one line")
	f(good+strings.Repeat("A", maxText), "none is longer")
	f(prefix+"!", "as one line")
	f(pack(`{"v":1,"x":2}`), "newer version")
	f(pack(`{"v":2}`), "is of version 2")
	f(pack(`{"v":1} {}`), "follows its end")
	f(pack(`{"v":1,"id":"a","pin":"AA=="}`), "its pin")
	f(pack(`{"v":1,"id":"a","pin":"`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`","secret":"AA=="}`), "its secret")
	secret := base64.StdEncoding.EncodeToString(make([]byte, SecretSize))
	pin := base64.StdEncoding.EncodeToString(make([]byte, 32))
	f(pack(`{"v":1,"pin":"`+pin+`","secret":"`+secret+`","td":"a.b"}`), "its id")
	f(pack(`{"v":1,"id":"a","pin":"`+pin+`","secret":"`+secret+`","td":"A B"}`), "trust domain")
}

// What parses is written again as the same token, and no error quotes the text.
func FuzzParse(f *testing.F) {
	f.Add(sample().Encode())
	for _, seed := range []string{"", prefix, prefix + "e30", "mesh1.e30", prefix + "eyJ2IjoxfQ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(text)
		if err != nil {
			if rest := strings.TrimPrefix(strings.TrimSpace(text), prefix); len(rest) > 40 && strings.Contains(err.Error(), rest) {
				t.Errorf("the error quotes the token: %v", err)
			}
			return
		}
		again, err := Parse(token.Encode())
		if err != nil || *again != *token {
			t.Errorf("%v became %v, %v", token, again, err)
		}
	})
}
