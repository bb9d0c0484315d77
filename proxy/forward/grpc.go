package forward

import (
	"bytes"
	"strconv"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
)

// A grpcCall is what gRPC says beside HTTP.
type grpcCall struct {
	on      bool            // the request is a gRPC call
	timeout *exchange.Field // grpc-timeout, nil without one
	left    [16]byte        // what it says to the next hop
}

// begin finds out what a request says, and by when it wants to be answered.
func (g *grpcCall) begin(r *exchange.Request, began time.Time) (deadline time.Time) {
	if g.on = r.IsGRPC(); !g.on {
		return deadline
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; exchange.Equal(f.Name, "grpc-timeout") {
			if d, ok := parseTimeout(f.Value); ok {
				g.timeout = f
				return began.Add(d)
			}
		}
	}
	return deadline
}

// passOn says to the next hop how much is left of the time, never more.
func (g *grpcCall) passOn(deadline time.Time) {
	if g.timeout == nil {
		return
	}
	left := max(time.Until(deadline), time.Microsecond)
	unit, letter := time.Microsecond, byte('u')
	if left >= 90*time.Second {
		unit, letter = time.Millisecond, 'm'
	}
	if left >= 24*time.Hour {
		unit, letter = time.Second, 'S'
	}
	g.timeout.Value = append(strconv.AppendInt(g.left[:0], int64(left/unit), 10), letter)
}

// parseTimeout reads at most eight digits and a unit. What is no number is the
// application's to refuse.
func parseTimeout(v []byte) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n, ok := exchange.Number(v[:len(v)-1])
	if !ok {
		return 0, false
	}
	unit := timeUnit(v[len(v)-1])
	if unit == 0 || n > int64(100*365*24*time.Hour/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

func timeUnit(letter byte) time.Duration {
	switch letter {
	case 'H':
		return time.Hour
	case 'M':
		return time.Minute
	case 'S':
		return time.Second
	case 'm':
		return time.Millisecond
	case 'u':
		return time.Microsecond
	case 'n':
		return time.Nanosecond
	}
	return 0
}

// unknownStatus stands for one that is missing.
const unknownStatus = "2"

// grpcStatus finds the status among trailers.
func grpcStatus(trailers []byte) string {
	for len(trailers) > 0 {
		var line []byte
		line, trailers, _ = bytes.Cut(trailers, []byte("\r\n"))
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && exchange.Equal(name, "grpc-status") {
			return knownStatus(value)
		}
	}
	return unknownStatus
}

// knownStatus keeps strangers' words out of metrics.
func knownStatus(value []byte) string {
	if n, ok := exchange.Number(value); ok && int(n) < len(statuses) {
		return statuses[n].word
	}
	return unknownStatus
}

// statuses are those of gRPC, and as what of HTTP they count for an endpoint.
var statuses = [...]struct {
	word string
	http int
}{
	{"0", 200}, {"1", 499}, {"2", 500}, {"3", 400}, {"4", 504}, {"5", 404}, {"6", 409}, {"7", 403}, {"8", 429},
	{"9", 400}, {"10", 409}, {"11", 400}, {"12", 404}, {"13", 500}, {"14", 503}, {"15", 500}, {"16", 401},
}

// httpStatus is as what a status counts for an endpoint.
func httpStatus(word string) int {
	n, _ := strconv.Atoi(word)
	return statuses[n].http
}
