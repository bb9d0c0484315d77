package proxy

import (
	"net/http"
	"testing"

	"github.com/meshd/meshd/proxy/plan"
)

func TestDenyRulesCannotBeEvaded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.serveHTTP(m.far(), func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s arrives", r.Method, r.RequestURI) })
		deny := plan.PolicyRule{Deny: true, From: []plan.CallerPattern{{ID: web}}, Methods: []string{"DELETE", "OPTIONS"}, Paths: []plan.PathPattern{{Path: "/", Prefix: true}}}
		m.far().inbound.Policies = []plan.Policy{{Name: "p", Rules: []plan.PolicyRule{deny}}}
		m.apply()
		rest := " HTTP/1.1\nHost: orders\n\n"
		m.want("DELETE /a"+rest, 403, "denied")
		m.want("delete /a"+rest, 400, "bad-request")
		m.want("OPTIONS *"+rest, 403, "denied")
		m.want("OPTIONS http://orders"+rest, 403, "denied")
	})
}
