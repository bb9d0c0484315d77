package pki

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestKeyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key := newKey(t)
	if err := WriteKey(path, key); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got, err := ReadKey(path); err != nil || !got.Equal(key) {
		t.Errorf("read another key: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestReadKeyRefuses(t *testing.T) {
	a := newAuthority(t, domain, time.Now())
	path := filepath.Join(t.TempDir(), "key.pem")
	f := func(name, content string) {
		t.Helper()
		if err := WriteSecret(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	f("empty", "")
	f("no PEM", "key")
	f("damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	if err := WriteCertificates(path+".crt", [][]byte{a.Root.Raw}); err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(path + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	f("certificate", string(cert))
	if _, err := ReadKey(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	if _, err := ReadKey(path + ".missing"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("missing: %v", err)
	}
}

func unwrap(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}

func TestCertificateFiles(t *testing.T) {
	a := newAuthority(t, domain, time.Now())
	path := filepath.Join(t.TempDir(), "chain.pem")
	want := [][]byte{a.Issuing.Raw, a.Root.Raw}
	if err := WriteCertificates(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCertificates(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	f := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCertificates(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	f("empty", "")
	f("no PEM", "x")
	f("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f("other PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
}

func TestSeal(t *testing.T) {
	key, other := NewSealingKey(), NewSealingKey()
	sealed := key.Seal([]byte("secret"), "cluster", "root key")
	if got, err := key.Open(sealed, "cluster", "root key"); string(got) != "secret" || err != nil {
		t.Errorf("opened %q, %v", got, err)
	}
	f := func(name string, key SealingKey, sealed []byte, purpose ...string) {
		t.Helper()
		if got, err := key.Open(sealed, purpose...); err == nil {
			t.Errorf("%s: opened %q", name, got)
		}
	}
	f("another key", other, sealed, "cluster", "root key")
	f("another purpose", key, sealed, "cluster", "issuing key")
	f("purpose split elsewhere", key, sealed, "clusterroot ", "key")
	f("no purpose", key, sealed)
	for i := range sealed {
		damaged := append([]byte{}, sealed...)
		damaged[i] ^= 1
		f(fmt.Sprintf("byte %d damaged", i), key, damaged, "cluster", "root key")
		f(fmt.Sprintf("cut to %d", i), key, sealed[:i], "cluster", "root key")
	}
	if again := key.Seal([]byte("secret"), "cluster", "root key"); string(again) == string(sealed) {
		t.Error("two seals are alike")
	}
}

func TestParseSealingKey(t *testing.T) {
	key := NewSealingKey()
	if got, err := ParseSealingKey(key[:]); got != key || err != nil {
		t.Errorf("parsed another key, %v", err)
	}
	for _, n := range []int{0, SealingKeySize - 1, SealingKeySize + 1} {
		if _, err := ParseSealingKey(make([]byte, n)); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}

func TestSealingKeyDoesNotShow(t *testing.T) {
	key := NewSealingKey()
	hex := fmt.Sprintf("%x", [SealingKeySize]byte(key))
	for _, format := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d"} {
		if got := fmt.Sprintf(format, key); got != "(sealing key)" || strings.Contains(got, hex) {
			t.Errorf("%s: %s", format, got)
		}
		if got := fmt.Sprintf(format, struct{ Key SealingKey }{key}); strings.Contains(got, hex) {
			t.Errorf("%s in a struct: %s", format, got)
		}
	}
	if b, err := json.Marshal(key); err == nil {
		t.Errorf("encoded as %s", b)
	}
}

func FuzzOpen(f *testing.F) {
	key := NewSealingKey()
	f.Add(key.Seal([]byte("x")))
	f.Add([]byte{sealVersion})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if data, err := key.Open(sealed, "another purpose"); err == nil {
			t.Errorf("opened %q", data)
		}
	})
}
