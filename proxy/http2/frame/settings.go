package frame

import "encoding/binary"

// A Setting is one parameter that a peer announces.
type Setting struct {
	ID    SettingID
	Value uint32
}

// A SettingID says what a Setting is about.
type SettingID uint16

const (
	HeaderTableSize       SettingID = 1
	EnablePush            SettingID = 2
	MaxConcurrentStreams  SettingID = 3
	InitialWindowSize     SettingID = 4
	MaxFrameSize          SettingID = 5
	MaxHeaderListSize     SettingID = 6
	EnableConnectProtocol SettingID = 8
)

// NextSetting takes the first setting of a SETTINGS frame's payload, which is
// not empty.
func NextSetting(payload []byte) (s Setting, rest []byte, err error) {
	s = Setting{SettingID(binary.BigEndian.Uint16(payload)), binary.BigEndian.Uint32(payload[2:])}
	return s, payload[6:], s.check()
}

func (s Setting) check() error {
	switch {
	case s.ID == EnablePush && s.Value > 1:
		return connError(ProtocolError, "ENABLE_PUSH is neither 0 nor 1")
	case s.ID == EnableConnectProtocol && s.Value > 1:
		return connError(ProtocolError, "ENABLE_CONNECT_PROTOCOL is neither 0 nor 1")
	case s.ID == InitialWindowSize && s.Value > MaxWindow:
		return connError(FlowControlError, "INITIAL_WINDOW_SIZE is beyond what a window can be")
	case s.ID == MaxFrameSize && (s.Value < DefaultMaxSize || s.Value > LargestMaxSize):
		return connError(ProtocolError, "MAX_FRAME_SIZE is beyond what a frame can be")
	}
	return nil
}
