package frame

import "encoding/binary"

// AppendHeader appends a frame's header.
func AppendHeader(dst []byte, h Header) []byte {
	return append(dst, byte(h.Length>>16), byte(h.Length>>8), byte(h.Length), byte(h.Type), byte(h.Flags),
		byte(h.Stream>>24), byte(h.Stream>>16), byte(h.Stream>>8), byte(h.Stream))
}

// AppendData appends a DATA frame.
func AppendData(dst []byte, stream uint32, data []byte, end bool) []byte {
	h := Header{Length: len(data), Type: Data, Stream: stream}
	if end {
		h.Flags = EndStream
	}
	return append(AppendHeader(dst, h), data...)
}

// BeginHeaders appends room for the header of a HEADERS frame, behind which a
// field block is to be appended. EndBlock completes it.
func BeginHeaders(dst []byte) []byte { return append(dst, make([]byte, HeaderSize)...) }

// EndBlock completes the HEADERS frame that BeginHeaders has begun at start. A
// block that is longer than one frame may be goes on in CONTINUATION frames.
func EndBlock(dst []byte, start int, stream uint32, end bool, maxSize int) []byte {
	h := Header{Type: Headers, Stream: stream}
	if end {
		h.Flags = EndStream
	}
	for {
		h.Length = len(dst) - start - HeaderSize
		if h.Length <= maxSize {
			h.Flags |= EndHeaders
			AppendHeader(dst[:start], h)
			return dst
		}
		h.Length = maxSize
		AppendHeader(dst[:start], h)
		start += HeaderSize + maxSize
		dst = append(dst, make([]byte, HeaderSize)...)
		copy(dst[start+HeaderSize:], dst[start:])
		h = Header{Type: Continuation, Stream: stream}
	}
}

// AppendReset appends a RST_STREAM frame.
func AppendReset(dst []byte, stream uint32, code Code) []byte {
	dst = AppendHeader(dst, Header{Length: 4, Type: Reset, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

// AppendSettings appends a SETTINGS frame.
func AppendSettings(dst []byte, settings ...Setting) []byte {
	dst = AppendHeader(dst, Header{Length: 6 * len(settings), Type: SettingsType})
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Value)
	}
	return dst
}

// AppendSettingsAck appends the answer to a SETTINGS frame.
func AppendSettingsAck(dst []byte) []byte {
	return AppendHeader(dst, Header{Type: SettingsType, Flags: Ack})
}

// AppendPing appends a PING frame with eight bytes, or the answer to one.
func AppendPing(dst []byte, data [8]byte, ack bool) []byte {
	h := Header{Length: 8, Type: PingType}
	if ack {
		h.Flags = Ack
	}
	return append(AppendHeader(dst, h), data[:]...)
}

// AppendGoAway appends a GOAWAY frame.
func AppendGoAway(dst []byte, last uint32, code Code, why string) []byte {
	dst = AppendHeader(dst, Header{Length: 8 + len(why), Type: GoAwayType})
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, why...)
}

// AppendWindowUpdate appends a WINDOW_UPDATE frame; stream 0 is the connection.
func AppendWindowUpdate(dst []byte, stream uint32, n int64) []byte {
	dst = AppendHeader(dst, Header{Length: 4, Type: WindowUpdateType, Stream: stream})
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}
