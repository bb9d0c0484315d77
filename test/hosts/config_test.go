package hosts

import (
	"strconv"
	"strings"
	"testing"
)

const ordersService = `kind: service
name: orders
protocol: http
timeout: {request: 15s, connect: 1s}
retry: {attempts: 2, on: [connect, refused, reset, 5xx]}
subsets:
  v1: {meta.version: "1"}
  v2: {meta.version: "2"}
`

const ordersRoute = `kind: route
name: orders-v2
service: orders
rules:
  - match: {path: {prefix: /v2/}}
    split: [{to: orders@v2, weight: 30}, {to: orders@v1, weight: 10}]
  - match: {path: {prefix: /}}
    split: [{to: orders@v1}]
`

func (m *mesh) apply(t *testing.T, host, content string) {
	t.Helper()
	m.write(t, host, "/root/apply.yaml", content)
	m.run(t, host, "meshd apply -f /root/apply.yaml")
}

func (m *mesh) route(t *testing.T) {
	m.apply(t, "h2", ordersService+"---\n"+ordersRoute)
	took := m.waitOutput(t, "h4", "curl --silent 'http://orders.mesh/?[1-20]' | sort -u", "orders version 1 on h1")
	t.Logf("the route acts on h4 %s after meshd apply", millis(took))

	const calls = 400
	answers := m.run(t, "h4", "curl --silent --show-error --fail 'http://orders.mesh/v2/?[1-"+strconv.Itoa(calls)+"]'")
	v1, v2 := strings.Count(answers, "version 1"), strings.Count(answers, "version 2")
	t.Logf("weights 10 and 30 gave %d and %d calls", v1, v2)
	// Six standard deviations off the mean: 100 ± 52.
	if v1+v2 != calls || v1 < 48 || v1 > 152 {
		t.Errorf("%d calls were split %d to %d, want about 1 to 3", calls, v1, v2)
	}
}

func ordersPolicy(rule string) string {
	return "kind: policy\nname: orders\nservice: orders\ndefault: deny\nrules:\n  - " + rule + "\n"
}

const onlyWeb = `{name: web-reads, from: [web], methods: [GET]}`

const httpStatus = "curl --silent --output /dev/null --write-out '%{http_code}' "

// as has a script run in a unit of its own, which speaks as the service
// that claims the unit.
func as(unit, script string) string {
	return "systemd-run --quiet --wait --pipe --collect --unit=" + unit + " bash -c '" + strings.ReplaceAll(script, "'", `'\''`) + "'"
}

func (m *mesh) policies(t *testing.T) {
	m.run(t, "h4", "meshd service add web --port 3000 --unit web.service")
	m.run(t, "h4", "meshd service add batch --port 3001 --unit batch.service")
	m.waitPassing(t, "h1", "web", 1)
	m.waitPassing(t, "h1", "batch", 1)
	m.apply(t, "h1", ordersPolicy(onlyWeb))
	m.waitOutput(t, "h4", httpStatus+"http://orders.mesh/", "403")

	check := func(script, want string) {
		t.Helper()
		if got := m.run(t, "h4", script); got != want {
			t.Errorf("%s: got %s, want %s", script, got, want)
		}
	}
	check(as("web", httpStatus+"http://orders.mesh/"), "200")
	check(as("web", httpStatus+"--request DELETE http://orders.mesh/"), "403")
	check(as("batch", httpStatus+"http://orders.mesh/"), "403")
	check(as("other", httpStatus+"http://orders.mesh/"), "403")
	check("curl --silent --output /dev/null --dump-header - http://orders.mesh/ | tr -d '\\r' | grep -i '^meshd-error:'", "meshd-error: denied")

	m.apply(t, "h1", "kind: policy\nname: greeter\nservice: greeter\nrules:\n  - {name: web, from: [web]}\n")
	const hello = "exec 3<>/dev/tcp/greeter.mesh/9000; read -r hello <&3; echo $hello"
	m.waitOutput(t, "h4", hello+"; true", "")
	m.waitOutput(t, "h4", as("web", hello), "hello from h1")
}

// refuse applies files with a mistake each, some behind a good document.
func (m *mesh) refuse(t *testing.T) {
	before := m.run(t, "h1", "meshd get service -o json; meshd get route -o json; meshd get policy -o json")
	f := func(content, position, about string) {
		t.Helper()
		m.write(t, "h1", "/root/wrong.yaml", content)
		out, err := m.try(t.Context(), "h1", "meshd apply -f /root/wrong.yaml 2>&1")
		if err == nil {
			t.Errorf("a wrong file was applied: %s\n%s", content, out)
		}
		if !strings.Contains(out, "/root/wrong.yaml:"+position) || !strings.Contains(out, about) {
			t.Errorf("want %s and %q in:\n%s", position, about, out)
		}
	}
	f("kind: service\nname: fresh\nretri: {attempts: 1}\n", "3:1", "retri")
	f("kind: service\nname: fresh\n---\nkind: service\nname: orders\ntimeout: {request: soon}\n", "6:20", "soon")
	f("kind: service\nname: fresh\n---\nkind: route\nname: r\nservice: orders\nrules:\n  - match: {path: {prefix: /x}}\n    split: [{to: orders@v9}]\n", "9:18", "v9")

	if after := m.run(t, "h1", "meshd get service -o json; meshd get route -o json; meshd get policy -o json"); after != before {
		t.Errorf("refused files changed the mesh from\n%s\nto\n%s", before, after)
	}
}
