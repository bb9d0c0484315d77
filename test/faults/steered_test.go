package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// steeredBinary is meshd with two things in the standard library that a file
// steers: what time the clock on the wall shows, while timers go on as they
// should, and how long it takes until data are on disk. No namespace of Linux
// has a wall clock of its own, and its vDSO leaves nothing to intercept.
func steeredBinary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	return binary(t, 1, "meshd-steered", "-overlay", overlay(t, dir), "-ldflags", "-checklinkname=0")
}

// steer says how far ahead the server's clock is, and how long each write to its
// disk takes more than it does anyhow.
func (p *process) steer(t *testing.T, ahead, sync time.Duration) {
	t.Helper()
	text := fmt.Sprintf("%d %d", ahead, sync)
	if err := os.WriteFile(p.control+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.control+".new", p.control); err != nil {
		t.Fatal(err)
	}
}

// steering is the program's own part: it follows the control file.
const steering = `package main

import (
	"fmt"
	"os"
	"time"
	_ "unsafe"
)

//go:linkname setAhead time.setAhead
func setAhead(ns int64)

//go:linkname setSyncDelay syscall.setSyncDelay
func setSyncDelay(wait func())

func init() {
	var delay time.Duration
	follow := func() {
		var ahead, sync int64
		if text, err := os.ReadFile(os.Getenv("MESHD_FAULTS_CONTROL")); err == nil {
			fmt.Sscan(string(text), &ahead, &sync)
		}
		setAhead(ahead)
		if d := time.Duration(sync); d != delay {
			delay = d
			setSyncDelay(func() { time.Sleep(d) })
		}
	}
	follow()
	go func() {
		for {
			time.Sleep(10 * time.Millisecond)
			follow()
		}
	}()
}
`

// overlay says which files the build takes in place of the standard library's.
func overlay(t *testing.T, dir string) string {
	t.Helper()
	root := strings.TrimSpace(output(t, "go", "env", "GOROOT"))
	module := filepath.Dir(strings.TrimSpace(output(t, "go", "env", "GOMOD")))
	replace := map[string]string{}
	put := func(path, text string) {
		name := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = name
	}
	patch := func(path, more string, changes ...string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(changes); i += 2 {
			if strings.Count(string(text), changes[i]) != 1 {
				t.Fatalf("this Go's %s is not as this test knows it: it has no single %q", path, changes[i])
			}
		}
		put(path, strings.NewReplacer(changes...).Replace(string(text))+more)
	}
	patch(filepath.Join(root, "src/time/time.go"), steeredClock,
		"import (\n", "import (\n\t\"sync/atomic\"\n",
		"func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", steeredNow)
	patch(filepath.Join(root, "src/syscall/zsyscall_linux_"+runtime.GOARCH+".go"), steeredDelay,
		"import \"unsafe\"\n", "import (\n\t\"sync/atomic\"\n\t\"unsafe\"\n)\n",
		"func Fdatasync(fd int) (err error) {\n", steeredSync)
	put(filepath.Join(module, "steering.go"), steering)

	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const steeredNow = `func Now() Time {
	sec, nsec, mono := runtimeNow()
	ns := int64(nsec) + ahead.Load()
	sec, ns = sec+ns/1e9, ns%1e9
	if ns < 0 {
		sec, ns = sec-1, ns+1e9
	}
	nsec = int32(ns)
`

const steeredClock = `
var ahead atomic.Int64

func setAhead(ns int64) { ahead.Store(ns) }
`

const steeredSync = `func Fdatasync(fd int) (err error) {
	if wait := syncDelay.Load(); wait != nil {
		(*wait)()
	}
`

const steeredDelay = `
var syncDelay atomic.Pointer[func()]

func setSyncDelay(wait func()) { syncDelay.Store(&wait) }
`

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}
