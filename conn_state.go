package flare

// This file is layer 3 (engine): the states of a connection, named for what
// they wait for, and every legal move between them, and how it ends. doc.go has the picture; a
// test holds the two together.

type connState uint8

const (
	stateIdle      connState = iota // the first byte of a request
	stateHead                       // the rest of a head
	stateBody                       // the rest of a short body, before the handler runs
	stateHandler                    // a handler to return
	stateFlush                      // the peer to read what is queued
	stateDrain                      // the rest of input that nobody wants
	stateSwitched                   // whatever another protocol than HTTP waits for
	stateHandshake                  // the peer's part of a TLS handshake
	stateStreams                    // whatever a connection of many streams waits for
	stateClosed                     // nothing
	connStates
)

var connStateNames = [connStates]string{"idle", "head", "body", "handler", "flush", "drain", "switched", "handshake", "streams", "closed"}

func (s connState) String() string { return connStateNames[s] }

// connMoves lists the states that each state may move to.
var connMoves = [connStates][]connState{
	stateIdle:      {stateHead, stateFlush, stateDrain, stateStreams, stateClosed},
	stateHead:      {stateBody, stateFlush, stateDrain, stateClosed},
	stateBody:      {stateHandler, stateFlush, stateDrain, stateClosed},
	stateHandler:   {stateIdle, stateFlush, stateDrain, stateSwitched, stateClosed},
	stateFlush:     {stateIdle, stateHead, stateBody, stateHandler, stateDrain, stateSwitched, stateClosed},
	stateDrain:     {stateIdle, stateFlush, stateClosed},
	stateSwitched:  {stateFlush, stateDrain, stateClosed},
	stateHandshake: {stateIdle, stateDrain, stateSwitched, stateClosed},
	stateStreams:   {stateIdle, stateDrain, stateClosed},
	stateClosed:    {},
}

// connMoveSet is connMoves as one bit set a state.
var connMoveSet = func() (sets [connStates]uint16) {
	for from, moves := range connMoves {
		for _, to := range moves {
			sets[from] |= 1 << to
		}
	}
	return sets
}()

// setState is the only place where a connection's state changes. The time of
// the change is what the state's deadline counts from.
func (c *Conn) setState(to connState) {
	if connMoveSet[c.state]&(1<<to) == 0 {
		panic("flare: illegal move of a connection from " + c.state.String() + " to " + to.String())
	}
	c.state = to
	if c.workset != nil {
		c.since = c.workset.clock.now
	}
}

// An ending says how a connection ends. A later one is the harsher.
type ending uint8

const (
	endNot        ending = iota // it goes on
	endFlushed                  // once everything is sent
	endReset                    // at once: what was sent must not look whole, or nobody takes it
	endHandedOver               // it goes on in other hands: neither the loop nor its owner has it
)

// end has the connection end, because of cause, nil when it does so in order.
// The first cause stands, and no call makes the end a milder one. It is the only
// place where either is set. Only the owner calls it.
func (c *Conn) end(how ending, cause error) {
	if c.cause == nil {
		c.cause = cause
	}
	c.ending = max(c.ending, how)
}

// broken reports whether nothing can be sent any more.
func (c *Conn) broken() bool { return c.ending >= endReset }
