package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJSONToYAML(t *testing.T) {
	f := func(json, yaml string) {
		t.Helper()
		got, err := JSONToYAML([]byte(json))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(yaml, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", json, diff)
		}
	}
	f(`{"zebra":1,"ant":"1","index":"18446744073709551615","list":[{"b":true,"a":null},{}],"none":[]}`,
		"zebra: 1\nant: \"1\"\nindex: \"18446744073709551615\"\nlist:\n- b: true\n  a: null\n- {}\nnone: []\n")
	f(`{"output":"first\nsecond: #"}`, "output: \"first\\nsecond: #\"\n")
	f(`{"state":"true","word":"a: b"}`, "state: \"true\"\nword: \"a: b\"\n")
}

func TestYAMLToJSON(t *testing.T) {
	f := func(yaml, json string) {
		t.Helper()
		got, err := YAMLToJSON([]byte(yaml))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(json, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", yaml, diff)
		}
	}
	f("kind: service\nname: orders\nversion: 12\nsubsets:\n  v2:\n    meta.version: \"2\"\n",
		`{"kind": "service", "name": "orders", "version": 12, "subsets": {"v2": {"meta.version": "2"}}}`)
	f("kind: mesh\npolicy: {default: allow}\nlist: [a, b]\n", `{"kind": "mesh", "policy": {"default": "allow"}, "list": ["a", "b"]}`)
}
