package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/telemetry"
)

// A Server serves a handler on one listener, whose connections are as gRPC would
// have them: TLS is done, or it is a unix socket.
type Server struct {
	http *http.Server
	done chan struct{}
}

// Serve serves until Stop. Whoever is slow to ask, to send or to read is cut off.
func Serve(l net.Listener, h http.Handler, log *slog.Logger) *Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	s := &Server{
		http: &http.Server{
			Handler:                      h,
			Protocols:                    protocols,
			ConnContext:                  grpcx.WithPeer,
			DisableGeneralOptionsHandler: true,
			ReadHeaderTimeout:            5 * time.Second,
			ReadTimeout:                  30 * time.Second,
			WriteTimeout:                 time.Minute,
			IdleTimeout:                  time.Minute,
			MaxHeaderBytes:               8 << 10,
			ErrorLog:                     slog.NewLogLogger(telemetry.Limit(log, 10, time.Minute).Handler(), slog.LevelWarn),
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Error("the API's HTTP listener stopped", "address", l.Addr().String(), "error", err)
		}
	}()
	return s
}

// Stop lets requests finish until ctx ends, then cuts them off, and waits.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.done
	return err
}
