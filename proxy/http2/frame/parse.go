package frame

import "encoding/binary"

// Check refuses what can be refused by the header alone, before any payload is
// waited for.
func (h Header) Check(maxSize int) error {
	if h.Length > maxSize {
		return errTooLong
	}
	switch h.Type {
	case Data, Headers, Continuation:
		return h.about(true)
	case Priority:
		return h.priority()
	case Reset:
		return h.exactly(4, true)
	case SettingsType:
		return h.settings()
	case PushPromise:
		return errPush
	case PingType:
		return h.exactly(8, false)
	case GoAwayType:
		if h.Length < 8 {
			return errSize
		}
		return h.about(false)
	case WindowUpdateType:
		if h.Length != 4 {
			return errSize
		}
	}
	return nil
}

func (h Header) about(stream bool) error {
	switch {
	case stream && h.Stream == 0:
		return errStreamZero
	case !stream && h.Stream != 0:
		return errNotZero
	}
	return nil
}

func (h Header) exactly(length int, stream bool) error {
	if err := h.about(stream); err != nil {
		return err
	}
	if h.Length != length {
		return errSize
	}
	return nil
}

// priority is of one size; another harms the stream only.
func (h Header) priority() error {
	if h.Stream == 0 {
		return errStreamZero
	}
	if h.Length != 5 {
		return &Error{h.Stream, FrameSizeError, "a PRIORITY frame does not have 5 bytes"}
	}
	return nil
}

func (h Header) settings() error {
	if h.Length%6 != 0 || h.Flags.Has(Ack) && h.Length > 0 {
		return errSize
	}
	return h.about(false)
}

// ParseData gives the data of a DATA frame.
func ParseData(h Header, payload []byte) ([]byte, error) {
	if !h.Flags.Has(Padded) {
		return payload, nil
	}
	return unpad(payload)
}

func unpad(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, errSize
	}
	n := int(payload[0])
	if payload = payload[1:]; n > len(payload) {
		return nil, errPadding
	}
	return payload[:len(payload)-n], nil
}

// ParseHeaders gives the beginning of the field block of a HEADERS frame. Its
// priority, if it has one, is of no further use.
func ParseHeaders(h Header, payload []byte) (block []byte, err error) {
	if h.Flags.Has(Padded) {
		if payload, err = unpad(payload); err != nil {
			return nil, err
		}
	}
	if !h.Flags.Has(HasPriority) {
		return payload, nil
	}
	if len(payload) < 5 {
		return nil, errSize
	}
	if binary.BigEndian.Uint32(payload)&MaxWindow == h.Stream {
		return payload[5:], errSelf(h.Stream)
	}
	return payload[5:], nil
}

// CheckPriority refuses a PRIORITY frame by which a stream waits for itself.
func CheckPriority(h Header, payload []byte) error {
	if binary.BigEndian.Uint32(payload)&MaxWindow == h.Stream {
		return errSelf(h.Stream)
	}
	return nil
}

func errSelf(stream uint32) error {
	return &Error{stream, ProtocolError, "a stream depends on itself"}
}

// ParseReset gives the code of a RST_STREAM frame.
func ParseReset(payload []byte) Code { return Code(binary.BigEndian.Uint32(payload)) }

// ParseGoAway gives the last stream that was or will be dealt with, and why no
// more will.
func ParseGoAway(payload []byte) (last uint32, code Code) {
	return binary.BigEndian.Uint32(payload) & MaxWindow, Code(binary.BigEndian.Uint32(payload[4:]))
}

// ParseWindowUpdate gives by how much a window grows. An error is about the
// stream, if there is one.
func ParseWindowUpdate(h Header, payload []byte) (int64, error) {
	n := binary.BigEndian.Uint32(payload) & MaxWindow
	if n == 0 {
		return 0, &Error{h.Stream, ProtocolError, "a window grows by nothing"}
	}
	return int64(n), nil
}
