// Package flare serves HTTP/1.1, HTTP/2 and WebSocket from event loops, with handlers
// in plain blocking Go.
//
//	mux := flare.NewMux()
//	mux.Get("/hello/{name}", func(w *flare.ResponseWriter, r *flare.Request) error {
//		return w.Text(200, "hello, "+r.PathValue("name"))
//	})
//	log.Fatal(flare.ListenAndServe("127.0.0.1:8080", mux))
//
// # Where handlers run
//
// Each loop has one goroutine, the runner, that polls, parses, calls handlers
// and sends. A handler that is known to be quick runs right there: no
// goroutine, no channel, no allocation. A handler may block all the same. New
// routes run on a goroutine of their own until they have proven to be quick;
// when a handler on the loop waits in flare's own code, for a body or for a
// slow reader, it first passes the loop on to a fresh goroutine; and when it
// takes long in any other way, a monitor takes the loop away from it and the
// other connections go on. [Inline] and [Offload] fix the choice for a route.
//
// # Layers
//
// The files of the package are layered; each opens by saying where it stands
// and what it knows. A file uses its own layer or a lower one, and wire and
// system never meet.
//
//	5 surface   mux  files  nethttp  testing  compress  reverse_proxy  auth_server auth_digest_server  doc
//	            access_log  middleware  bind  etag  problem  render  session
//	            metrics  trace health
//	4 roles     server event stats  http1  handler exchange lease context
//	            http2_conn http2_table http2_stream http2_tunnel http2_config http2_budget
//	            websocket  client http2_client jar  dial dns  cert_reloader
//	            listen upgrade systemd
//	3 engine    loop  baton strand monitor predictor  conn pace  workset clock  udp
//	1 wire (bytes to values)    2 system (values to system calls)
//	   parser target forwarded     poller socket sysnum memory monotonic
//	   header body response        datagram parker
//	   http2 hpack
//	   websocket_frame _message
//	   _utf8 _extension _deflate
//	   cookie auth encoding
//	   proxy_header
//	   line_reader traceparent
//	   media_type
//	0 base      errors guard ascii addr buffer date timerwheel mask view race
//	            version
//
// Each word stands for a family: handler is handler.go, handler_file.go and so
// on. Only websocket and http2 are in two layers: frames, messages and the compression
// of messages are wire, and so are frames and fields of HTTP/2; the rest is roles.
//
// # Connections
//
// A connection is always in one of these states, named for what they wait for.
//
// States of a connection:
//
//	idle → head, flush, drain, streams, closed
//	head → body, flush, drain, closed
//	body → handler, flush, drain, closed
//	handler → idle, flush, drain, switched, closed
//	flush → idle, head, body, handler, drain, switched, closed
//	drain → idle, flush, closed
//	switched → flush, drain, closed
//	handshake → idle, drain, switched, closed
//	streams → idle, drain, closed
//	closed →
//
// A request's way is idle, head, body (only a short one is awaited here),
// handler, idle. flush waits for a client that does not read, drain discards
// input that nobody wants: the rest of a body, or what arrives after the last
// answer. switched is a connection that has left HTTP: a WebSocket on the loop,
// which other goroutines may write to while it waits. handshake comes before all
// of them where there is TLS. A connection of HTTP/2 is idle or in streams, while
// any of them is open.
package flare

// This file is layer 5 (surface): the package documentation and nothing else.
