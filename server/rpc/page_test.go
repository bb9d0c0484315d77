package rpc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func nodes(names ...string) (list []*apiv1.Node) {
	for _, name := range names {
		list = append(list, &apiv1.Node{Name: name})
	}
	return list
}

// nodePage is a page of the nodes whose names do not end in x.
func nodePage(p *apiv1.Page, rows []*apiv1.Node) (names []string, next string, err error) {
	shown, next, err := page(p, rows, (*apiv1.Node).GetName, func(n *apiv1.Node) *apiv1.Node {
		if strings.HasSuffix(n.Name, "x") {
			return nil
		}
		return n
	})
	for _, n := range shown {
		names = append(names, n.Name)
	}
	return names, next, err
}

func TestPages(t *testing.T) {
	f := func(size uint32, rows []*apiv1.Node, want ...string) {
		t.Helper()
		var got []string
		p := &apiv1.Page{Size: size}
		for {
			names, next, err := nodePage(p, rows)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Join(names, " "))
			if p.After = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
	f(2, nodes("a", "b", "c", "d", "e"), "a b", "c d", "e")
	f(2, nodes("a", "b", "c", "d"), "a b", "c d")
	f(2, nodes("a", "ax", "b", "bx", "byx", "c", "cx"), "a b", "c")
	f(2, nodes("ax", "x"), "")
	f(0, nodes("a", "b"), "a b")
	f(3, nil, "")
}

// What is there all the time is seen once, whatever comes and goes.
func TestPagesOfAListingThatChanges(t *testing.T) {
	first, next, err := nodePage(&apiv1.Page{Size: 2}, nodes("a", "c", "e", "g"))
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := nodePage(&apiv1.Page{Size: 9, After: next}, nodes("b", "d", "e", "f", "g"))
	if got := fmt.Sprint(first, second); got != "[a c] [d e f g]" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestPagesEndBeforeTheyAreTooLarge(t *testing.T) {
	big := strings.Repeat("v", 3<<20)
	rows := nodes("a", "b", "c", "d")
	for _, n := range rows {
		n.Version = big
	}
	rows[3].Version = big + big + big + big
	var got []int
	p := &apiv1.Page{}
	for {
		names, next, err := nodePage(p, rows)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, len(names))
		if p.After = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff([]int{2, 1, 1}, got); diff != "" {
		t.Errorf("rows of pages (-want +got):\n%s", diff)
	}
}

func TestPagesThatMakeNoSense(t *testing.T) {
	f := func(p *apiv1.Page, want string) {
		t.Helper()
		if _, _, err := nodePage(p, nodes("a")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%v gave %v, want %q", p, err, want)
		}
	}
	f(&apiv1.Page{Size: maxPage + 1}, "is the most")
	f(&apiv1.Page{After: "x"}, "begin anew")
	f(&apiv1.Page{After: "p"}, "begin anew")
	f(&apiv1.Page{After: "p!"}, "begin anew")
	f(&apiv1.Page{After: pageToken(strings.Repeat("k", maxKey+1))}, "begin anew")
}

func FuzzPageToken(f *testing.F) {
	for _, seed := range []string{"", "p", "pQQ", pageToken("route\x00orders"), "p====", "p000\n0", "q" + pageToken("a")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		key, err := parsePageToken(token)
		if err == nil && token != "" && pageToken(key) != token {
			t.Errorf("%q and %q are both the token of %q", token, pageToken(key), key)
		}
	})
}

func TestPatternsOfTheAudit(t *testing.T) {
	f := func(s, pattern string, want bool) {
		t.Helper()
		if got := fitsPattern(s, pattern); got != want {
			t.Errorf("%q fits %q: %v", s, pattern, got)
		}
	}
	f("token/a", "", true)
	f("token/a", "token/*", true)
	f("token/a", "token/a", true)
	f("token/ab", "token/a", false)
	f("user/0", "token/*", false)
	f("user/0", "*", true)
}
