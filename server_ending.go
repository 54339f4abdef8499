package flare

import (
	"context"
	"sync"
)

// This file is layer 4 (roles): who learns that a Server ends, beside its
// connections: handlers that would wait for long, and functions of the user's.

// A serverEnding tells of a server's end.
type serverEnding struct {
	mu    sync.Mutex
	ctx   context.Context    // guarded by mu; ends with the server; nil: nobody has asked
	end   context.CancelFunc // guarded by mu; of ctx
	over  bool               // guarded by mu: Shutdown or Close has begun
	begun bool               // guarded by mu: Shutdown has
	hooks []func()           // guarded by mu: of RegisterOnShutdown
}

// context returns a context that ends when Shutdown or Close begins.
func (e *serverEnding) context() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		e.ctx, e.end = context.WithCancel(context.Background())
		if e.over {
			e.end()
		}
	}
	return e.ctx
}

// tell ends the context.
func (e *serverEnding) tell() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	if e.end != nil {
		e.end()
	}
}

// begin is tell for Shutdown. It returns the functions that are to be called then.
func (e *serverEnding) begin() []func() {
	e.mu.Lock()
	hooks := e.hooks
	e.begun, e.hooks = true, nil
	e.mu.Unlock()
	e.tell()
	return hooks
}

// register keeps f for begin. It reports whether it is too late for that.
func (e *serverEnding) register(f func()) (late bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.begun {
		e.hooks = append(e.hooks, f)
	}
	return e.begun
}
