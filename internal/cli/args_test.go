package cli

import (
	"strings"
	"testing"
)

func TestFlagsFirst(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got := strings.Join(flagsFirst(newApp(), strings.Fields("meshd "+in)), " ")
		if got != strings.TrimSpace("meshd "+want) {
			t.Errorf("meshd %s: got %q, want %q", in, got, "meshd "+want)
		}
	}
	f("", "")
	f("status", "status")
	f("service add orders --port 8080", "service add --port 8080 orders")
	f("service --port 8080 add orders", "service --port 8080 add orders")
	f("status --socket /x -o json", "--socket /x status -o json")
	f("join mesh1.x --server", "join --server mesh1.x")
	f("join --server mesh1.x", "join --server mesh1.x")
	f("join -", "join -")
	f("get route -o=yaml canary", "get -o=yaml route canary")
	f("get -- -o", "get -- -o")
	f("get route -- -o", "get -- route -o")
	f("service list add", "service list add")
	f("status --help", "status --help")
	f("--help", "--help")
	f("status --nonsense x", "status --nonsense x")
	f("apply -f", "apply -f")
	f("get ro --generate-bash-completion", "get ro --generate-bash-completion")
}

func TestFlagsFirstKeepsNoFlagForAParent(t *testing.T) {
	// A flag of a group's command may not end up before the command.
	args := flagsFirst(newApp(), []string{"meshd", "token", "create", "x", "--ttl", "5m"})
	if got := strings.Join(args, " "); got != "meshd token create --ttl 5m x" {
		t.Errorf("got %q", got)
	}
}

func TestClosest(t *testing.T) {
	f := func(word, want string) {
		t.Helper()
		if got := closest(word, []string{"apply", "status", "service", "get", "members", "h"}); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
	f("stauts", "status")
	f("aply", "apply")
	f("servcie", "service")
	f("member", "members")
	f("frobnicate", "")
	f("x", "")
}
