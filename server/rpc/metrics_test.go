package rpc

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	m.called(apiv1.Admin_Apply_FullMethodName, nil)
	m.called(apiv1.Admin_Apply_FullMethodName, status.Error(codes.Aborted, "no"))
	m.took(apiv1.Admin_Apply_FullMethodName, time.Second)
	m.refused("authentication")
	m.limited("change")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			got = append(got, name)
		}
	}
	want := []string{
		"meshd_api_call_seconds method=Admin/Apply",
		"meshd_api_calls_total code=Aborted method=Admin/Apply",
		"meshd_api_calls_total code=OK method=Admin/Apply",
		"meshd_api_limited_total kind=change",
		"meshd_api_refused_total reason=authentication",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	newMetrics(nil).called("x", nil) // none are registered
}
