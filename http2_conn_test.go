package flare

import (
	"net/http"
	"testing"
)

// A stream that ends while its wish is not heard yet leaves none behind: it may
// be another connection's by then.
func TestHTTP2WishEndsWithItsStream(t *testing.T) {
	f := newFeeder(t, &Server{Handler: textHandler("")})
	c := f.newConn()
	f.srv.http2 = f.srv.http2Config()
	f.beginHTTP2(c)
	h := c.proto.(*http2Conn)
	for gone := range 3 {
		var all [3]*http2Stream
		for i := range all {
			all[i] = h.newStream(uint32(2*i + 1))
			all[i].wish()
		}
		h.open = 3
		s := all[gone]
		s.closed = true
		h.forget(s)
		if s.wished || s.nextWish != nil {
			t.Errorf("%d: the stream still wishes", gone)
		}
		left := 0
		for s := h.wishes; s != nil && left < 3; s = s.nextWish {
			if left++; s == all[gone] {
				t.Errorf("%d: the wish is still there", gone)
			}
		}
		if left != 2 {
			t.Errorf("%d: %d wishes are left of two", gone, left)
		}
		h.wishes = nil
	}
}

// A wish is posted once until the loop has looked, also when who has wished ends
// meanwhile: a strand is in the list of what is posted once, or cuts it.
func TestHTTP2WishIsPostedOnce(t *testing.T) {
	f := newFeeder(t, &Server{Handler: textHandler("")})
	c := f.newConn()
	f.srv.http2 = f.srv.http2Config()
	f.beginHTTP2(c)
	h, l := c.proto.(*http2Conn), c.loop
	one, two := h.newStream(1), h.newStream(3)
	h.open = 2
	one.wish()
	one.closed = true
	h.forget(one)
	two.wish()
	posted := 0
	for s := l.posted; s != nil && posted < 3; s = s.nextPosted {
		posted++
	}
	if posted != 1 {
		t.Errorf("posted %d times", posted)
	}
	l.posted = nil
	h.wished(c)
	if two.wish(); l.posted != &c.strand {
		t.Error("a wish behind the look is not posted")
	}
	l.posted, h.wishes = nil, nil
}

// Octets of a body whose head the handler has not given yet wait for it: a stream
// that is listed as one with something to send, and has not, holds its loop up
// for ever.
func TestHTTP2BodyWaitsForItsHead(t *testing.T) {
	f := newFeeder(t, &Server{Handler: textHandler("")})
	c := f.newConn()
	f.srv.http2 = f.srv.http2Config()
	f.beginHTTP2(c)
	h := c.proto.(*http2Conn)
	s := h.newStream(1)
	h.open = 1
	s.running, s.sendWindow = true, 0
	s.out.append([]byte("octets"), nil)
	if err := h.openWindow(s, 100); err != nil {
		t.Fatal(err)
	}
	if s.list != nil {
		t.Fatal("the stream is listed")
	}
	if b := h.appendBody(nil, s); len(b) > 0 || s.list != nil {
		t.Errorf("%q was sent before the head; listed: %t", b, s.list != nil)
	}
	s.out.drop()
}

// The turn that finds the preface may have been taken from the loop: what HTTP/2 says
// behind it is left to the loop, whose streams they are.
func TestHTTP2PrefaceOffTheLoop(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: textHandler("fine"), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	f := newFeeder(t, s)
	f.loop.workset = f.workset
	c := f.newConn()
	c.tr = &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{appendSettings([]byte(http2Preface))}}
	c.edges |= ownRead | ownWrite
	if v := c.takeTurn(f.workset, turnDrive); v != verdictMore || !c.many {
		t.Fatalf("verdict %d, many streams %t", v, c.many)
	}
	if h := c.proto.(*http2Conn); h.prefaced || len(f.loop.flushing) > 0 {
		t.Fatal("an owner has read frames")
	}
	if f.turnHTTP2(c, turnDrive); !c.proto.(*http2Conn).greeted {
		t.Fatal("the loop has not")
	}
}
