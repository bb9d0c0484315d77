package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxBody is the largest body in bytes, that of a snapshot excepted.
const maxBody = 4 << 20

// readBody reads a body that must be of a media type.
func readBody(r *http.Request, mediaType string) ([]byte, error) {
	if err := checkType(r, mediaType); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, badRequest(http.StatusRequestEntityTooLarge, "send it in several parts", "the body is larger than %d bytes", tooLarge.Limit)
	case err != nil:
		return nil, badRequest(http.StatusBadRequest, "", "the body cannot be read to its end")
	}
	return data, nil
}

// checkType is strict, so that no page's form can pass for a request.
func checkType(r *http.Request, mediaType string) error {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != mediaType {
		return badRequest(http.StatusUnsupportedMediaType, "add the header content-type: "+mediaType, "the body is not said to be %s", mediaType)
	}
	return nil
}

// readMessage reads a body of the fields of a message; no body is one of none.
func readMessage(r *http.Request, m proto.Message) error {
	if r.ContentLength == 0 {
		return nil
	}
	data, err := readBody(r, "application/json")
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		return badRequest(http.StatusBadRequest, "see docs/api.md for its fields", "the body does not fit: %s", plainJSON(data, err))
	}
	return nil
}

// plainJSON says what is wrong with a body: of its syntax in our words, of its
// fields in those of the library.
func plainJSON(data []byte, err error) string {
	var syntax *json.SyntaxError
	var any json.RawMessage
	if e := json.Unmarshal(data, &any); errors.As(e, &syntax) {
		return fmt.Sprintf("it is no JSON, from byte %d on", syntax.Offset)
	}
	return withoutPrefix(err.Error())
}
