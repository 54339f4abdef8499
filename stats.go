package flare

import "time"

// This file is layer 4 (roles): what a server has counted. Loops publish their
// counts once a batch, so reading them costs a request nothing.

// Stats is a moment of a server. Counters only grow; they are consistent
// enough for graphs, not among each other to the last unit while requests run.
type Stats struct {
	Accepted    uint64 `json:"accepted"`    // connections since the start
	AcceptShort uint64 `json:"acceptShort"` // times that accepting paused for want of descriptors or memory
	Requests    uint64 `json:"requests"`    // heads read, refused ones included
	BytesIn     uint64 `json:"bytesIn"`     // received from sockets; of TLS what was in it
	BytesOut    uint64 `json:"bytesOut"`    // accepted by sockets, likewise

	// Connections counts the open connections by what they wait for.
	Connections struct {
		Open      int64 `json:"open"`
		Handshake int64 `json:"handshake"` // the first byte of a TLS handshake; one that runs is in Handler
		Idle      int64 `json:"idle"`      // the next request
		Head      int64 `json:"head"`      // the rest of a head
		Body      int64 `json:"body"`      // the rest of a short body
		Handler   int64 `json:"handler"`   // a handler that runs
		Flush     int64 `json:"flush"`     // the client to read
		Drain     int64 `json:"drain"`     // the end, or the rest of an unread body
		Switched  int64 `json:"switched"`  // another protocol than HTTP
		Streams   int64 `json:"streams"`   // anything, with streams of HTTP/2 open
		HTTP2     int64 `json:"http2"`     // of those in any state, the ones that speak HTTP/2
	} `json:"connections"`

	// Responses counts final responses by class.
	Responses struct {
		Class2xx uint64 `json:"2xx"`
		Class3xx uint64 `json:"3xx"`
		Class4xx uint64 `json:"4xx"`
		Class5xx uint64 `json:"5xx"`
	} `json:"responses"`

	// Timeouts counts connections that ran into a limit of time.
	Timeouts struct {
		Handshake uint64 `json:"handshake"`
		Idle      uint64 `json:"idle"`
		Head      uint64 `json:"head"`
		Body      uint64 `json:"body"`
		Write     uint64 `json:"write"`
		Linger    uint64 `json:"linger"`
	} `json:"timeouts"`

	// Handshakes counts handshakes of TLS.
	Handshakes struct {
		Done    uint64 `json:"done"`
		Resumed uint64 `json:"resumed"` // of those that were done
		Failed  uint64 `json:"failed"`
	} `json:"handshakes"`

	// Handlers counts where handlers ran and what the predictor learned.
	// Demotions are those of the whole process, since servers may share routes.
	Handlers struct {
		Inline     uint64 `json:"inline"` // on the loop
		Worker     uint64 `json:"worker"` // on a goroutine of their own
		Passes     uint64 `json:"passes"` // handlers that waited for the client, the loop passed on
		Steals     uint64 `json:"steals"` // handlers that held the loop for too long
		Promotions uint64 `json:"promotions"`
		Demotions  uint64 `json:"demotions"`
		Panics     uint64 `json:"panics"`
	} `json:"handlers"`

	// HTTP2 counts ends before their time.
	HTTP2 struct {
		ResetByPeer   uint64            `json:"resetByPeer"`   // streams
		ResetByServer uint64            `json:"resetByServer"` // streams
		GoAways       map[string]uint64 `json:"goAways"`       // connections, by the code (RFC 9113 §7)
	} `json:"http2"`

	LoopLagMax time.Duration `json:"loopLagMaxNs"` // longest batch of a loop since the start, if over 1 ms
}

// Stats returns what the server has counted. Any goroutine may call it.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	loops := s.loops
	s.mu.Unlock()
	var sums counts
	var st Stats
	var gauges [connStates]int64
	for i := range sums {
		sums[i] = s.carried.sums[i].Load()
	}
	for _, l := range loops {
		for i := range sums {
			sums[i] += l.counts.sums[i].Load()
		}
		for i := range gauges {
			gauges[i] += int64(l.gauges[i].Load())
		}
		st.Handlers.Passes += l.passes.Load()
		st.Handlers.Steals += l.steals.Load()
		st.LoopLagMax = max(st.LoopLagMax, time.Duration(l.counts.lagMax.Load()))
	}
	s.fillConnections(&st, &gauges)
	st.fill(&sums)
	return st
}

// fillConnections fills in what the server counts itself, and how many
// connections are in each state.
func (s *Server) fillConnections(st *Stats, gauges *[connStates]int64) {
	st.Accepted, st.AcceptShort = s.accepted.Load(), s.short.Load()
	c := &st.Connections
	c.Open, c.Handshake, c.Idle = s.conns.Load(), gauges[stateHandshake], gauges[stateIdle]
	c.Head, c.Body, c.Handler = gauges[stateHead], gauges[stateBody], gauges[stateHandler]
	c.Flush, c.Drain, c.Switched = gauges[stateFlush], gauges[stateDrain], gauges[stateSwitched]
	c.Streams = gauges[stateStreams]
	s.http2Counts.fill(st)
	h := &st.Handshakes
	h.Done, h.Resumed, h.Failed = s.handshakes.done.Load(), s.handshakes.resumed.Load(), s.handshakes.failed.Load()
}

// fill fills in what loops have counted.
func (st *Stats) fill(sums *counts) {
	st.Requests, st.BytesIn, st.BytesOut = sums[countRequests], sums[countBytesIn], sums[countBytesOut]
	r := &st.Responses
	r.Class2xx, r.Class3xx, r.Class4xx, r.Class5xx = sums[countClass2], sums[countClass3], sums[countClass4], sums[countClass5]
	t := &st.Timeouts
	t.Handshake, t.Idle, t.Head = sums[countTimeoutHandshake], sums[countTimeoutIdle], sums[countTimeoutHead]
	t.Body, t.Write, t.Linger = sums[countTimeoutBody], sums[countTimeoutWrite], sums[countTimeoutLinger]
	h := &st.Handlers
	h.Inline, h.Worker, h.Panics = sums[countInline], sums[countWorker], sums[countPanics]
	h.Promotions, h.Demotions = sums[countPromotions], demotions.Load()
}
