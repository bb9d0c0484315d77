package rpc

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"
)

func TestEveryMethodSaysWhoMayCallIt(t *testing.T) {
	s := New(Config{Logger: slog.New(slog.DiscardHandler)})
	for _, g := range []*grpc.Server{s.TLS(), s.Socket()} {
		methods := 0
		for service, info := range g.GetServiceInfo() {
			for _, m := range info.Methods {
				methods++
				allowed := mayCall("/" + service + "/" + m.Name)
				if allowed == 0 {
					t.Errorf("nobody is listed who may call %s.%s: say in mayCall who may", service, m.Name)
				}
				if allowed&viewer != 0 && allowed&operator == 0 || allowed&operator != 0 && allowed&administrator == 0 {
					t.Errorf("a lower role may call %s.%s, and a higher one may not", service, m.Name)
				}
			}
		}
		if methods < 9 {
			t.Errorf("only %d methods are served", methods)
		}
		g.Stop()
	}
	if mayCall("/meshd.v1.Admin/Unknown") != 0 {
		t.Error("a method that is not listed may be called")
	}
}
