package flare

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHub(t *testing.T) {
	t.Parallel()
	for _, version := range eventVersions {
		t.Run(version.name, func(t *testing.T) {
			t.Parallel()
			hub := &Hub{MaxHistory: 3}
			url, client := version.start(t, &Server{Handler: hub})
			clients := []*eventClient{openEvents(t, client, url, ""), openEvents(t, client, url, "")}
			eventually(t, "both clients", func() bool { return hub.Len() == 2 })
			for i := range 5 {
				n, err := hub.Broadcast(ServerSentEvent{ID: fmt.Sprint(i), Data: fmt.Sprint("news ", i)})
				if n != 2 || err != nil {
					t.Errorf("%d took it, %v", n, err)
				}
			}
			hub.Broadcast(ServerSentEvent{Data: "without an ID"}) // no client can name it: it is not kept
			for _, c := range clients {
				for i := range 5 {
					c.want(fmt.Sprintf("id: %d\ndata: news %d\n\n", i, i))
				}
				c.want("data: without an ID\n\n")
			}
			for lastID, want := range map[string][]int{"": nil, "4": nil, "3": {4}, "2": {3, 4}, "0": {2, 3, 4}, "lost": {2, 3, 4}} {
				c := openEvents(t, client, url, lastID)
				eventually(t, "the client that is back", func() bool { return hub.Len() == 3 })
				for _, i := range want {
					c.want(fmt.Sprintf("id: %d\ndata: news %d\n\n", i, i))
				}
				hub.Broadcast(ServerSentEvent{Data: "now"})
				c.want("data: now\n\n")
				c.Body.Close()
				eventually(t, "the end of the client that was back", func() bool { return hub.Len() == 2 })
			}
			if n, err := hub.Broadcast(ServerSentEvent{ID: "a\nb"}); n != 0 || err == nil {
				t.Errorf("a line break in an ID: %d, %v", n, err)
			}
		})
	}
}

// The history is within the bound of octets too.
func TestHubHistoryIsBounded(t *testing.T) {
	hub := &Hub{MaxHistory: 1000, MaxQueueBytes: 100}
	for i := range 50 {
		if _, err := hub.Broadcast(ServerSentEvent{ID: fmt.Sprint(10 + i), Data: "x"}); err != nil { // 16 octets
			t.Fatal(err)
		}
	}
	if c := hub.join(nil, "lost"); len(c.queue) != 6 || c.bytes != 96 || string(c.queue[0]) != "id: 54\ndata: x\n\n" {
		t.Errorf("%d events of %d octets, the first %q", len(c.queue), c.bytes, c.queue[0])
	}
	if _, err := hub.Broadcast(ServerSentEvent{Data: strings.Repeat("x", 100)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an event beyond every queue: %v", err)
	}
	unlimited := &Hub{MaxQueueBytes: -1}
	unlimited.join(nil, "")
	if n, err := unlimited.Broadcast(ServerSentEvent{Data: strings.Repeat("x", 1<<20)}); n != 1 || err != nil {
		t.Errorf("without a limit: %d, %v", n, err)
	}
}

// A client that does not read has a queue that is bounded, and nobody waits for it.
func TestHubOfAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for _, version := range eventVersions {
		for _, policy := range []QueuePolicy{QueueBlock, QueueDropConnection, QueueDropOldest} {
			t.Run(fmt.Sprint(version.name, " ", policy), func(t *testing.T) {
				t.Parallel()
				hub := &Hub{MaxQueueBytes: 64 << 10, QueuePolicy: policy, Heartbeat: -1}
				url, client := version.start(t, &Server{Handler: hub, MinWriteRate: -1, WriteTimeout: -1})
				c := openEvents(t, client, url, "")
				eventually(t, "the client", func() bool { return hub.Len() == 1 })
				var one *hubClient
				hub.mu.Lock()
				for one = range hub.clients {
				}
				hub.mu.Unlock()
				text := strings.Repeat("x", 30<<10)
				last, full := 0, false
				for began := time.Now(); !full; last++ {
					if time.Since(began) > patience {
						t.Fatal("its queue is never full")
					}
					sent, err := hub.Broadcast(ServerSentEvent{Type: fmt.Sprint(last), Data: text})
					if err != nil {
						t.Fatal(err)
					}
					one.mu.Lock()
					if one.bytes > hub.MaxQueueBytes {
						t.Errorf("%d octets wait", one.bytes)
					}
					full = sent == 0 || policy == QueueDropOldest && last > 1000
					one.mu.Unlock()
				}
				if policy == QueueDropConnection {
					if _, err := c.lines.WriteTo(new(strings.Builder)); err == nil {
						t.Error("the end of a stream that was dropped looks as one in order")
					}
					eventually(t, "the end of the client", func() bool { return hub.Len() == 0 })
					return
				}
				// It reads again, and gets what is sent now.
				seen := make(chan bool)
				go func() {
					defer close(seen)
					for line, err := c.lines.ReadString('\n'); err == nil; line, err = c.lines.ReadString('\n') {
						if line == "event: now\n" {
							return
						}
					}
				}()
				eventually(t, "room", func() bool {
					n, _ := hub.Broadcast(ServerSentEvent{Type: "now"})
					return n == 1
				})
				<-seen
			})
		}
	}
}
