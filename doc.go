// Package flare serves HTTP/1.1 and WebSocket from an event loop.
package flare
