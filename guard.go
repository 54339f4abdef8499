package flare

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// This file is layer 0 (base): the one way in which flare calls what its user
// wrote. Such code returns, panics or ends its goroutine with runtime.Goexit, and
// none of the three may cost more than what it was called for: not the loop that
// happened to call it, nor other connections, nor the process.
//
// A panic is best dealt with near the call, where something can be answered. The
// end of the goroutine is dealt with once, where flare's own part of the goroutine
// begins: Conn.takeTurn, Loop.callback, a goroutine's first function.

// guard calls fn. It returns a panic of fn as an error, nil if there was none.
// When fn ends the goroutine guard does not return: the defers of its callers
// run, exited before all of them. exited may be nil, and must not call code of the
// user, which may end the goroutine a second time.
func guard(fn, exited func()) (panicked *panicError) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			panicked = &panicError{value: v, stack: debug.Stack()}
		} else if exited != nil {
			exited()
		}
	}()
	fn()
	returned = true
	return nil
}

// A panicError is a panic of the user's code as an error, for the log.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("flare: user code panicked: %v", e.value) }

// logTo calls logger, whose handler may be the user's. A panic of it is dropped:
// there is nowhere left to tell.
func logTo(logger *slog.Logger, level slog.Level, message string, attrs ...slog.Attr) {
	guard(func() { logger.LogAttrs(context.Background(), level, message, attrs...) }, nil)
}

// logEvery is how often a logThrottle lets a line pass.
const logEvery = time.Second

// A logThrottle lets one line a second pass: whoever can bring about what is
// logged must not be able to fill a disk. Any goroutine may use it.
type logThrottle struct {
	mu      sync.Mutex
	next    time.Duration // no line before; guarded by mu
	skipped int           // lines that did not pass; guarded by mu
}

// pass reports whether a line may be written now, since origin, and how many were
// not since the last one.
func (l *logThrottle) pass(now time.Duration) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now < l.next {
		l.skipped++
		return 0, false
	}
	skipped = l.skipped
	l.next, l.skipped = now+logEvery, 0
	return skipped, true
}

// logPanic logs a panic for which there is nobody else to be told of. It does so
// from a goroutine of its own, so that the logger cannot end the caller's.
func logPanic(logger *slog.Logger, message string, p *panicError) {
	go logTo(logger, slog.LevelError, message, slog.Any("error", p), slog.String("stack", string(p.stack)))
}
