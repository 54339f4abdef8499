package flare

import (
	"net/http"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): what a server says of HTTP/2: its settings, out
// of net/http's types, and their defaults.

const (
	defaultHTTP2Streams      = 128
	defaultHTTP2StreamWindow = 256 << 10
	defaultHTTP2ConnWindow   = 1 << 20
	defaultHTTP2Ping         = 15 * time.Second // of silence, while streams are open

	// fieldCostHTTP2 is what a field counts by SETTINGS_MAX_HEADER_LIST_SIZE beside
	// its octets (RFC 9113 §6.5.2).
	fieldCostHTTP2 = 32
)

// An http2Config is what connections of HTTP/2 of one server have in common.
type http2Config struct {
	streams      int32 // at once
	streamWindow int64 // of bodies of requests
	connWindow   int64
	tableSize    uint32 // of the decoder
	listMax      uint32 // SETTINGS_MAX_HEADER_LIST_SIZE; 0: none
	connect      bool   // extended CONNECT is offered
	pingAfter    time.Duration
	pingTimeout  time.Duration
	lookEvery    time.Duration
	ageGrace     time.Duration // behind the end of a connection by its age; 0: none

	httpVersions
}

// httpVersions are the versions that are served.
type httpVersions struct{ http1, overTLS, cleartext bool }

// servedVersions returns them.
func (s *Server) servedVersions() httpVersions {
	switch p := s.Protocols; {
	case s.NewProtocol != nil:
		return httpVersions{}
	case p != nil:
		return httpVersions{p.HTTP1(), p.HTTP2(), p.UnencryptedHTTP2()}
	}
	return httpVersions{http1: true, overTLS: true}
}

// http2Config fills in the defaults.
func (s *Server) http2Config() http2Config {
	c := http2Config{
		streams:      defaultHTTP2Streams,
		streamWindow: defaultHTTP2StreamWindow,
		connWindow:   defaultHTTP2ConnWindow,
		tableSize:    tableBytesDefault,
		pingAfter:    defaultHTTP2Ping,
		pingTimeout:  defaultHTTP2Ping,
		connect:      true,
		ageGrace:     s.MaxConnAgeGrace,
		httpVersions: s.servedVersions(),
	}
	if given := s.HTTP2; given != nil {
		c.take(given)
	}
	lim := &s.lim
	if lim.head.headerBytes >= 0 && lim.head.uriBytes >= 0 && lim.head.headers >= 0 {
		c.listMax = uint32(min(effectiveLimit(lim.head.headerBytes)+effectiveLimit(lim.head.uriBytes)+
			fieldCostHTTP2*effectiveLimit(lim.head.headers), offsetMax))
	}
	c.lookEvery = http2LookEvery(lim.conn.body, lim.conn.write, c.pingAfter, c.pingTimeout)
	return c
}

// take takes what the user has set.
func (c *http2Config) take(given *http.HTTP2Config) {
	if n := given.MaxConcurrentStreams; n > 0 {
		c.streams = int32(min(n, streamMax))
	}
	if n := given.MaxReceiveBufferPerStream; n > 0 {
		c.streamWindow = int64(min(n, streamMax))
	}
	if n := given.MaxReceiveBufferPerConnection; n > 0 {
		c.connWindow = int64(min(max(n, windowDefault), streamMax))
	}
	if n := given.MaxDecoderHeaderTableSize; n > 0 {
		c.tableSize = uint32(min(n, http2TableMax))
	}
	if d := given.SendPingTimeout; d > 0 {
		c.pingAfter = d
	}
	if d := given.PingTimeout; d > 0 {
		c.pingTimeout = d
	}
}

// http2Counts are what Stats tells of HTTP/2 beside what loops count. All of it is
// rare.
type http2Counts struct {
	open                       atomic.Int64 // connections
	resetByPeer, resetByServer atomic.Uint64
	goAways                    [codeHTTP11Required + 2]atomic.Uint64 // by code; the last: others
}

func (c *http2Counts) goAway(code http2Code) {
	c.goAways[min(int(code), len(c.goAways)-1)].Add(1)
}

// fill fills in what Stats tells of it.
func (c *http2Counts) fill(st *Stats) {
	st.Connections.HTTP2 = c.open.Load()
	st.HTTP2.ResetByPeer, st.HTTP2.ResetByServer = c.resetByPeer.Load(), c.resetByServer.Load()
	st.HTTP2.GoAways = make(map[string]uint64)
	for code := range c.goAways {
		if n := c.goAways[code].Load(); n > 0 {
			st.HTTP2.GoAways[http2Code(code).String()] = n
		}
	}
}

// http2TableMax bounds what a decoder's table may be set to.
const http2TableMax = 64 << 10

// settings appends what is said first, where it is not the default.
func (c *http2Config) settings(to []http2Setting) []http2Setting {
	to = append(to,
		http2Setting{settingStreamsMax, uint32(c.streams)},
		http2Setting{settingWindow, uint32(c.streamWindow)},
		http2Setting{settingNoRFC7540Order, 1})
	if c.tableSize != tableBytesDefault {
		to = append(to, http2Setting{settingTableSize, c.tableSize})
	}
	if c.listMax > 0 {
		to = append(to, http2Setting{settingHeaderListMax, c.listMax})
	}
	if c.connect {
		to = append(to, http2Setting{settingConnect, 1})
	}
	return to
}

const (
	// http2LookMax is how often streams are looked at.
	http2LookMax = time.Second

	// http2LooksPerLimit is how often that is within the shortest limit.
	http2LooksPerLimit = 8
)

// http2LookEvery returns how often streams are looked at within limits of which 0
// is none.
func http2LookEvery(limits ...time.Duration) time.Duration {
	every := http2LookMax
	for _, limit := range limits {
		if limit > 0 {
			every = min(every, limit/http2LooksPerLimit)
		}
	}
	return max(every, tick)
}
