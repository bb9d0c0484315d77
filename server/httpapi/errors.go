package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd/meshd/internal/grpcx"
)

// An apiError is an error as clients get it.
type apiError struct {
	status int

	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Fix      string    `json:"fix,omitempty"`
	Problems []problem `json:"problems,omitempty"`
}

// A problem is one mistake in a resource.
type problem struct {
	Resource int    `json:"resource"` // index into the request
	Kind     string `json:"kind,omitempty"`
	Name     string `json:"name,omitempty"`
	Path     string `json:"path,omitempty"`
	Line     int    `json:"line,omitempty"` // of the resource, from 1
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
	Fix      string `json:"fix,omitempty"`
}

func (e *apiError) Error() string { return e.Message }

// GRPCStatus is how the error counts in metrics.
func (e *apiError) GRPCStatus() *status.Status {
	for code, known := range statuses {
		if known.name == e.Code {
			return status.New(code, e.Message)
		}
	}
	return status.New(codes.InvalidArgument, e.Message)
}

// badRequest is an error of a request that no method has seen.
func badRequest(httpStatus int, fix, format string, args ...any) *apiError {
	code := "invalid_argument"
	switch httpStatus {
	case http.StatusNotFound:
		code = "not_found"
	case http.StatusConflict, http.StatusPreconditionFailed:
		code = "aborted"
	case http.StatusRequestEntityTooLarge:
		code = "resource_exhausted"
	}
	return &apiError{status: httpStatus, Code: code, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// statuses are what the codes of methods become.
var statuses = map[codes.Code]struct {
	name string
	http int
	fix  string
}{
	codes.InvalidArgument:    {"invalid_argument", http.StatusBadRequest, ""},
	codes.Unauthenticated:    {"unauthenticated", http.StatusUnauthorized, "show an access token: authorization: Bearer TOKEN"},
	codes.PermissionDenied:   {"permission_denied", http.StatusForbidden, ""},
	codes.NotFound:           {"not_found", http.StatusNotFound, ""},
	codes.AlreadyExists:      {"already_exists", http.StatusConflict, ""},
	codes.Aborted:            {"aborted", http.StatusConflict, "read it again and make the change there"},
	codes.FailedPrecondition: {"failed_precondition", http.StatusConflict, ""},
	codes.ResourceExhausted:  {"resource_exhausted", http.StatusTooManyRequests, ""},
	codes.Unimplemented:      {"unimplemented", http.StatusNotImplemented, "update the server"},
	codes.Unavailable:        {"unavailable", http.StatusServiceUnavailable, "try again, or ask another server"},
	codes.DeadlineExceeded:   {"deadline_exceeded", http.StatusGatewayTimeout, "look whether it was done before you repeat it"},
	codes.Unknown:            {"unknown", http.StatusInternalServerError, "look whether it was done before you repeat it"},
	codes.Internal:           {"internal", http.StatusInternalServerError, "see the log of the server"},
}

// asError gives what clients get of a method's error.
func asError(err error) *apiError {
	var own *apiError
	if errors.As(err, &own) {
		return own
	}
	s := status.Convert(err)
	known, ok := statuses[s.Code()]
	if !ok {
		known = statuses[codes.Internal]
	}
	return &apiError{status: known.http, Code: known.name, Message: s.Message(), Fix: known.fix}
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	switch e.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="meshd"`)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	if wait, ok := grpcx.RetryAfter(err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	data, err := json.Marshal(e)
	if err != nil {
		panic("BUG: an error of plain values did not encode: " + err.Error())
	}
	// What is left of a body is not read: the connection ends with the answer.
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	if writeJSON(w, e.status, data) != nil {
		panic("BUG: JSON just made is none")
	}
}
