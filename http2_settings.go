package flare

import (
	"encoding/binary"
	"math"
)

// This file is layer 1 (wire): SETTINGS (RFC 9113 §6.5), both ways. It knows
// which values are allowed; what follows from one (windows of open streams, the
// encoder's table) is the connection's. http2_frame.go has checked the length.

// An http2SettingID is the identifier of a setting. Others are ignored (RFC
// 9113 §6.5.2).
type http2SettingID uint16

const (
	settingTableSize      http2SettingID = 0x1
	settingPush           http2SettingID = 0x2
	settingStreamsMax     http2SettingID = 0x3
	settingWindow         http2SettingID = 0x4
	settingFrameSizeMax   http2SettingID = 0x5
	settingHeaderListMax  http2SettingID = 0x6
	settingConnect        http2SettingID = 0x8 // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)
	settingNoRFC7540Order http2SettingID = 0x9 // SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218 §2.1)
)

const (
	windowDefault     = 1<<16 - 1 // RFC 9113 §6.5.2
	frameSizeDefault  = 1 << 14
	frameSizeLimit    = 1<<24 - 1
	settingsUnlimited = math.MaxUint32
)

const (
	ruleSettingPush      = "SETTINGS_ENABLE_PUSH is not 0 or 1, or 1 of a server (RFC 9113 §6.5.2)"
	ruleSettingWindow    = "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1 (RFC 9113 §6.5.2)"
	ruleSettingFrameSize = "SETTINGS_MAX_FRAME_SIZE out of its range (RFC 9113 §6.5.2)"
	ruleSettingConnect   = "SETTINGS_ENABLE_CONNECT_PROTOCOL is not 0 or 1, or went back to 0 (RFC 8441 §3)"
	ruleSettingNoOrder   = "SETTINGS_NO_RFC7540_PRIORITIES is not 0 or 1 (RFC 9218 §2.1)"
)

// http2Settings are the settings of one side.
type http2Settings struct {
	tableSize      uint32
	tableSizeLeast uint32 // that the last frame passed through (RFC 7541 §4.2)
	streamsMax     uint32
	window         uint32 // of a new stream
	frameSizeMax   uint32
	headerListMax  uint32
	push           bool
	connect        bool // extended CONNECT may be sent
}

// defaultHTTP2Settings hold until the first SETTINGS frame says otherwise.
var defaultHTTP2Settings = http2Settings{
	tableSize:      tableBytesDefault,
	tableSizeLeast: tableBytesDefault,
	streamsMax:     settingsUnlimited,
	window:         windowDefault,
	frameSizeMax:   frameSizeDefault,
	headerListMax:  settingsUnlimited,
	push:           true,
}

// apply takes the settings of a SETTINGS payload, in their order (RFC 9113
// §6.5.3). server: the frame is a server's.
func (s *http2Settings) apply(p []byte, server bool) error {
	s.tableSizeLeast = s.tableSize
	for ; len(p) >= settingBytes; p = p[settingBytes:] {
		setting := http2Setting{http2SettingID(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])}
		if err := s.set(setting, server); err != nil {
			return err
		}
	}
	return nil
}

// set takes one setting, if its value is allowed.
func (s *http2Settings) set(setting http2Setting, server bool) error {
	switch value := setting.value; setting.id {
	case settingTableSize:
		s.tableSize = value
		s.tableSizeLeast = min(s.tableSizeLeast, value)
	case settingPush:
		if value > 1 || value == 1 && server {
			return connFault(codeProtocol, ruleSettingPush)
		}
		s.push = value == 1
	case settingStreamsMax:
		s.streamsMax = value
	case settingWindow:
		if value > streamMax {
			return connFault(codeFlowControl, ruleSettingWindow)
		}
		s.window = value
	case settingFrameSizeMax:
		if value < frameSizeDefault || value > frameSizeLimit {
			return connFault(codeProtocol, ruleSettingFrameSize)
		}
		s.frameSizeMax = value
	case settingHeaderListMax:
		s.headerListMax = value
	case settingConnect:
		if value > 1 || value == 0 && s.connect {
			return connFault(codeProtocol, ruleSettingConnect)
		}
		s.connect = value == 1
	case settingNoRFC7540Order: // those priorities are ignored in any case
		if value > 1 {
			return connFault(codeProtocol, ruleSettingNoOrder)
		}
	}
	return nil
}

// An http2Setting is one setting as it is on the wire.
type http2Setting struct {
	id    http2SettingID
	value uint32
}

// appendSettings appends a SETTINGS frame.
func appendSettings(b []byte, settings ...http2Setting) []byte {
	b = appendHTTP2Head(b, http2Head{length: uint32(settingBytes * len(settings)), kind: frameSettings})
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.id))
		b = binary.BigEndian.AppendUint32(b, s.value)
	}
	return b
}

// appendSettingsAck appends the acknowledgement of a SETTINGS frame.
func appendSettingsAck(b []byte) []byte {
	return appendHTTP2Head(b, http2Head{kind: frameSettings, flags: flagAck})
}
