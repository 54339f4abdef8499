package flare

import (
	"sync"
	"time"
)

// This file is layer 4 (roles): what WebSockets of one kind have in common:
// limits, and what their handshakes agreed on. It is kept once for all that
// agreed on the same, since a server may have very many that only wait.
// websocket_core.go and the ways to run one use it.

// websocketLimits are WebSocketOptions with the defaults filled in.
type websocketLimits struct {
	messageBytes int64 // negative: none
	queueBytes   int
	write        time.Duration // 0 in all times: none
	heartbeat    time.Duration
	idle         time.Duration
	close        time.Duration
}

func (o *WebSocketOptions) limits() websocketLimits {
	return websocketLimits{
		messageBytes: limitOr(o.MaxMessageBytes, defaultMessageBytes),
		queueBytes:   boundOr(o.MaxQueueBytes, defaultOutputBytes),
		write:        max(limitOr(o.WriteTimeout, defaultWriteTimeout), 0),
		heartbeat:    max(limitOr(o.Heartbeat, defaultHeartbeat), 0),
		idle:         max(o.IdleTimeout, 0),
		close:        max(limitOr(o.CloseTimeout, defaultCloseTimeout), 0),
	}
}

// A websocketProfile does not change once it is made.
type websocketProfile struct {
	lim         websocketLimits
	policy      QueuePolicy
	client      bool
	compressed  bool
	agreed      deflateParams // if compressed
	subprotocol string
	rules       frameRules       // for frames of the peer
	codecs      *websocketCodecs // nil: none, or a connection's own, since they remember

	// Of WebSockets on a loop.
	handler *WebSocketHandler
	srv     *Server
	out     outboxRules
}

// websocketCodecs compress and decompress the messages of a connection.
type websocketCodecs struct {
	deflater *deflater
	inflater *inflater
}

func newWebSocketCodecs(agreed deflateParams, client bool) *websocketCodecs {
	z := new(websocketCodecs)
	z.deflater, z.inflater = agreed.codecs(client)
	return z
}

// remembers reports whether what they do depends on messages of before.
func (z *websocketCodecs) remembers() bool { return z.deflater.takeover || z.inflater.takeover }

func newWebSocketProfile(hs *handshake, o *WebSocketOptions, client bool) *websocketProfile {
	s := &websocketProfile{
		lim: o.limits(), policy: o.QueuePolicy, client: client,
		compressed: hs.compressed, agreed: hs.deflate, subprotocol: hs.subprotocol,
		rules: frameRules{masked: !client}, // RFC 6455 §5.1
	}
	if hs.compressed {
		s.rules.rsv = frameRSV1
		if z := newWebSocketCodecs(hs.deflate, client); !z.remembers() {
			s.codecs = z
		}
	}
	return s
}

// newCodecs returns what a new connection compresses with, nil for nothing.
func (s *websocketProfile) newCodecs() *websocketCodecs {
	if s.compressed && s.codecs == nil {
		return newWebSocketCodecs(s.agreed, s.client)
	}
	return s.codecs
}

// profilesKept is how many profiles a handler keeps: more than browsers and
// libraries offer ways to compress.
const profilesKept = 16

// websocketProfiles has the profiles of a handler's connections.
type websocketProfiles struct {
	mu   sync.Mutex
	list []*websocketProfile // guarded by mu
}

// find returns the profile for what hs agreed on.
func (l *websocketProfiles) find(h *WebSocketHandler, srv *Server, hs *handshake) *websocketProfile {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		if s.srv == srv && s.compressed == hs.compressed && s.agreed == hs.deflate && s.subprotocol == hs.subprotocol {
			return s
		}
	}
	s := newWebSocketProfile(hs, &h.WebSocketOptions, false)
	s.handler, s.srv = h, srv
	s.out = outboxRules{bound: s.lim.queueBytes, policy: s.policy, limit: roomLimit{s.lim.write, srv.lim.conn.writeRate}}
	if len(l.list) < profilesKept {
		l.list = append(l.list, s)
	}
	return s
}
