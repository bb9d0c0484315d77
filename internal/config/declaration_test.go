package config

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestDecodeDeclaration(t *testing.T) {
	f := func(yaml string, want ...string) {
		t.Helper()
		got, err := DecodeDeclaration("web.yaml", []byte(yaml))
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v %v", got, err)
		}
		for i := range want {
			d := &apiv1.Declaration{}
			if err := prototext.Unmarshal([]byte(want[i]), d); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got[i], d) {
				t.Errorf("got  %v\nwant %v", got[i], d)
			}
		}
	}
	f("name: web\nport: 80\n", `name:"web" id:"web" port:80 protocol:PROTOCOL_TCP weight:1`)
	f("name: web\nport: 80\ncheck: http:/healthz\ntags: []\n",
		`name:"web" id:"web" port:80 protocol:PROTOCOL_HTTP weight:1 checks:{http:"/healthz" interval:{seconds:5} timeout:{seconds:2}}`)
	f("name: web\nport: 80\nprotocol: tcp\nchecks:\n  - http: /\n    interval: 10s\n  - tcp: \":\"\n---\nname: b\nid: b:1\nport: 1\ncheck: tcp\n",
		`name:"web" id:"web" port:80 protocol:PROTOCOL_TCP weight:1 checks:{http:"/" interval:{seconds:10} timeout:{seconds:2}} checks:{tcp:":" interval:{seconds:5} timeout:{seconds:2}}`,
		`name:"b" id:"b:1" port:1 protocol:PROTOCOL_TCP weight:1 checks:{tcp:":" interval:{seconds:5} timeout:{seconds:2}}`)
}

func TestParseCheck(t *testing.T) {
	f := func(s, http, tcp string) {
		t.Helper()
		got, err := ParseCheck(s)
		if got.GetHttp() != http || got.GetTcp() != tcp || (err == nil) != (http+tcp != "") {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	f("http:/healthz", "/healthz", "")
	f("http:/a:b", "/a:b", "")
	f("http", "/", "")
	f("tcp", "", ":")
	f("tcp:", "", ":")
	f("tcp:90", "", ":90")
	f("tcp::90", "", ":90")
	f("tcp:127.0.0.1:90", "", "127.0.0.1:90")
	f("http:healthz", "", "")
	f("http:", "", "")
	f("udp:1", "", "")
	f("", "", "")
}

func FuzzDecodeDeclaration(f *testing.F) {
	f.Add([]byte("name: web\nport: 80\ncheck: http:/healthz\n"))
	f.Add([]byte("name: web\nport: 80\nchecks:\n  - tcp: \":\"\n    interval: 5s\nmeta: {a: b}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		declarations, err := DecodeDeclaration("fuzz.yaml", data)
		if err != nil {
			_ = err.Error()
			return
		}
		for _, d := range declarations {
			out, err := EncodeDeclaration(d)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeDeclaration("back.yaml", out)
			if err != nil || !proto.Equal(back[0], d) {
				t.Fatalf("%s\n%v", out, err)
			}
		}
	})
}
