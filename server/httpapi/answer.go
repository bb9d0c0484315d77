package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// writeMessage writes a reply with all its fields, empty or not, under the names
// that they have in the contract.
func writeMessage(w http.ResponseWriter, status int, reply proto.Message) error {
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(reply)
	if err != nil {
		return err
	}
	return writeJSON(w, status, data)
}

func writeCreated(w http.ResponseWriter, _ *http.Request, _, reply proto.Message) error {
	return writeMessage(w, http.StatusCreated, reply)
}

// writeJSON writes a document, the same bytes for the same content.
func writeJSON(w http.ResponseWriter, status int, data []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // whoever went away does not read it
	return nil
}

// withoutPrefix takes away how the library begins its errors, in one of two ways
// by chance.
func withoutPrefix(message string) string {
	for _, prefix := range []string{"proto:\u00a0", "proto: "} {
		message = strings.TrimPrefix(message, prefix)
	}
	return message
}
