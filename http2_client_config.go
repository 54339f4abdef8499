package flare

import (
	"net/http"
	"time"
)

// This file is layer 4 (roles): what the client's HTTP/2 is set up with, from what
// its user says in net/http's types.

// http2ClientConfig is what the client's connections are set up with.
type http2ClientConfig struct {
	tls, plain bool // over TLS, where the server agrees; without TLS
	http1      bool // HTTP/1.1 is spoken too

	settings     []http2Setting
	connWindow   int64
	streamWindow int64 // of a new stream
	windowMax    int64 // of one that was measured
	frameSizeMax uint32
	encoderMax   uint32
	tableMax     uint32

	lim *headLimits // of responses

	writeTimeout, idleTimeout time.Duration // 0 or less: none
	keepsIdle                 bool          // connections without streams stay

	pingAfter, pingTimeout time.Duration // 0 or less: none
}

const (
	http2StreamWindow = 256 << 10
	http2WindowMax    = 16 << 20 // of a stream; windowsMax is of all together
	http2ConnWindow   = 1 << 30
)

// newHTTP2ClientConfig fills the configuration in. What net/http takes for invalid is the
// default here too.
func newHTTP2ClientConfig(protocols *http.Protocols, config *http.HTTP2Config, lim *headLimits) http2ClientConfig {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	if protocols != nil {
		p = *protocols
	}
	var h http.HTTP2Config
	if config != nil {
		h = *config
	}
	cfg := http2ClientConfig{
		tls: p.HTTP2(), plain: p.UnencryptedHTTP2() && !p.HTTP1(), http1: p.HTTP1(),
		connWindow:   int64(within(h.MaxReceiveBufferPerConnection, windowDefault, 4<<20, http2ConnWindow)),
		streamWindow: http2StreamWindow,
		windowMax:    int64(within(h.MaxReceiveBufferPerStream, 1, 4<<20, http2WindowMax)),
		frameSizeMax: uint32(within(h.MaxReadFrameSize, frameSizeDefault, frameSizeLimit, frameSizeDefault)),
		encoderMax:   uint32(within(h.MaxEncoderHeaderTableSize, 1, 4<<20, encoderTableMax)),
		tableMax:     uint32(within(h.MaxDecoderHeaderTableSize, 1, 4<<20, tableBytesDefault)),
		lim:          lim,
		pingAfter:    limitOr(h.SendPingTimeout, 15*time.Second),
		pingTimeout:  limitOr(h.PingTimeout, 15*time.Second),
	}
	cfg.streamWindow = min(cfg.streamWindow, cfg.windowMax)
	cfg.settings = []http2Setting{
		{settingPush, 0},
		{settingWindow, uint32(cfg.streamWindow)},
		{settingTableSize, cfg.tableMax},
		{settingFrameSizeMax, cfg.frameSizeMax},
	}
	if n := lim.headerBytes; n > 0 {
		cfg.settings = append(cfg.settings, http2Setting{settingHeaderListMax, uint32(min(n, streamMax))})
	}
	return cfg
}

// within returns n if it is valid, else the default.
func within(n, least, most, otherwise int) int {
	if n < least || n > most {
		return otherwise
	}
	return n
}

// speaks says whether a connection of the route may speak HTTP/2.
func (cfg *http2ClientConfig) speaks(route *clientRoute) bool {
	if route.http1 {
		return false
	}
	return cfg.tls && route.origin.https || cfg.plain && !route.origin.https
}

// agreed says whether a connection of the route that is made speaks HTTP/2.
func (cfg *http2ClientConfig) agreed(l *clientLink) bool {
	return cfg.speaks(&l.route) && (!l.route.origin.https || l.state.NegotiatedProtocol == protoHTTP2)
}
