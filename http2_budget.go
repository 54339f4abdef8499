package flare

import "time"

// This file is layer 4 (roles): what a peer may have of us for nothing. Frames that
// cost us more than they cost the peer, and streams that end without an answer, have
// a budget (RFC 9113 §10.5).

const (
	// http2BudgetMax is how many resets and control frames may come at once. Each
	// answered request gives one back, and each second http2BudgetRate.
	http2BudgetMax  = 200
	http2BudgetRate = 20

	// http2SmallPerFrame is how many WINDOW_UPDATE, PING and PRIORITY_UPDATE frames
	// each DATA frame of ours allows, and another one for each http2SmallOctets of it:
	// net/http's client sends two whenever 4 KiB have been read of it, which is all
	// that a bufio.Reader, or gzip's, asks for at once.
	http2SmallPerFrame = 4
	http2SmallOctets   = 1 << 10
	http2SmallMax      = 1 << 20

	// http2ControlMax of frames may wait for a peer that does not read.
	http2ControlMax = 64 << 10
)

const (
	ruleBudget     = "too many resets and control frames (RFC 9113 §10.5)"
	ruleControlMax = "answers to control frames are not read (RFC 9113 §10.5)"
)

type http2Budget struct {
	left  int32
	small int32         // of WINDOW_UPDATE and the like, beside left
	since time.Duration // up to when left was refilled, 0: nothing was spent yet
}

// earn gives n back.
func (b *http2Budget) earn(n int32) { b.left = min(b.left+n, http2BudgetMax) }

// earnSmall is for a DATA frame of n octets that was sent.
func (b *http2Budget) earnSmall(n int64) {
	b.small = min(b.small+http2SmallPerFrame+int32(n/http2SmallOctets), http2SmallMax)
}

// spend reports whether there was something left.
func (b *http2Budget) spend(now time.Duration) bool {
	if b.since == 0 {
		b.since = now
	}
	if more := (now - b.since) * http2BudgetRate / time.Second; b.left <= 0 && more > 0 {
		b.left, b.since = int32(min(more, http2BudgetMax)), now
	}
	if b.left <= 0 {
		return false
	}
	b.left--
	return true
}
