package l4

import (
	"fmt"
	"io"

	"github.com/meshd/meshd/proxy/observe"
)

// On a link for TCP, the called agent speaks first: one byte with the length of
// what follows, and that many bytes with the name of a code. An empty greeting
// means that the application is connected and what follows is its own.

func writeGreeting(w io.Writer, refusal *observe.Code) error {
	name := ""
	if refusal != nil {
		name = refusal.Name
	}
	_, err := w.Write(append([]byte{byte(len(name))}, name...))
	return err
}

// readGreeting returns nil without an error if the application is connected.
func readGreeting(r io.Reader) (*observe.Code, error) {
	var buf [256]byte
	if _, err := io.ReadFull(r, buf[:1]); err != nil {
		return nil, fmt.Errorf("waiting for the other agent to connect: %w", err)
	}
	n := int(buf[0])
	if n == 0 {
		return nil, nil
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return nil, fmt.Errorf("waiting for the other agent to say why it did not connect: %w", err)
	}
	if code := observe.Lookup(string(buf[:n])); code != nil {
		return code, nil
	}
	return nil, fmt.Errorf("the other agent gives a reason that is not known here: %q", buf[:n])
}
