package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseExtensions(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		" , ,":             "",
		"a":                "a",
		"a, b;c;d=1 , e":   "a|b;c;d=1|e",
		"a ; b = \"c\\d\"": "a;b=cd",
		"a;b=\"c,d\"":      "refused", // not a token once unquoted (RFC 6455 §9.1)
		"a;b=\"c":          "refused",
		"a;b=":             "refused",
		"a;b=\"\"":         "refused",
		"a;":               "refused",
		"a;;b":             "refused",
		";a":               "refused",
		"a b":              "refused",
		"a;b c":            "refused",
		"a=b":              "refused",
		"(":                "refused",
		"a;b=\xff":         "refused",
		"a" + strings.Repeat(";b", extensionsOfferedMax+1): "refused",
		strings.Repeat("a,", extensionsOfferedMax+1):       "refused",
		strings.Repeat("a", extensionBytesMax+1):           "refused",
	} {
		list, err := parseExtensions(in, nil)
		var members []string
		for _, e := range list {
			for _, p := range e.params {
				e.name += ";" + p.name
				if p.hasValue {
					e.name += "=" + p.value
				}
			}
			members = append(members, e.name)
		}
		got := strings.Join(members, "|")
		if err != nil {
			got = "refused"
		}
		if got != want {
			t.Errorf("%.40q: %q, want %q", in, got, want)
		}
	}
}

func TestAcceptDeflate(t *testing.T) {
	const none = ""
	for _, c := range []struct {
		offer    string
		mode     Compression
		takeover bool
		want     string
	}{
		{"permessage-deflate", CompressionOff, true, none},
		{"", CompressionOn, true, none},
		{"x-webkit-deflate-frame", CompressionOn, true, none},
		{"permessage-deflate", CompressionOn, true, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"permessage-deflate", CompressionTakeover, true, "permessage-deflate"},
		{"permessage-deflate", CompressionTakeover, false, "permessage-deflate; server_no_context_takeover"},
		{"permessage-deflate; client_max_window_bits", CompressionTakeover, true, "permessage-deflate"},
		{"permessage-deflate; client_max_window_bits=9", CompressionTakeover, true, "permessage-deflate"},
		{"permessage-deflate; server_no_context_takeover", CompressionTakeover, true, "permessage-deflate; server_no_context_takeover"},
		{"permessage-deflate; client_no_context_takeover", CompressionTakeover, true, "permessage-deflate; client_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=15", CompressionTakeover, true, "permessage-deflate; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=8", CompressionTakeover, true, "permessage-deflate; server_no_context_takeover; server_max_window_bits=8"},
		{"permessage-deflate; server_max_window_bits=\"10\"", CompressionOn, true, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10"},
		// Void offers are passed over, and the next one counts (RFC 7692 §5).
		{"permessage-deflate; server_max_window_bits=7", CompressionOn, true, none},
		{"permessage-deflate; server_max_window_bits=16", CompressionOn, true, none},
		{"permessage-deflate; server_max_window_bits=08", CompressionOn, true, none},
		{"permessage-deflate; server_max_window_bits", CompressionOn, true, none},
		{"permessage-deflate; client_max_window_bits=x", CompressionOn, true, none},
		{"permessage-deflate; server_no_context_takeover=1", CompressionOn, true, none},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", CompressionOn, true, none},
		{"permessage-deflate; unknown", CompressionOn, true, none},
		{"permessage-deflate; unknown, permessage-deflate; server_max_window_bits=12", CompressionTakeover, true,
			"permessage-deflate; server_no_context_takeover; server_max_window_bits=12"},
	} {
		offers, err := parseExtensions(c.offer, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := none
		if p, ok := acceptDeflate(offers, c.mode, c.takeover); ok {
			got = string(p.append(nil))
		}
		if got != c.want {
			t.Errorf("%q, mode %d: %q, want %q", c.offer, c.mode, got, c.want)
		}
	}
}

func TestVerifyDeflate(t *testing.T) {
	for _, c := range []struct {
		answer string
		mode   Compression
		want   string
	}{
		{"", CompressionOff, "none"},
		{"", CompressionOn, "none"},
		{"permessage-deflate", CompressionOff, "refused"},
		{"permessage-deflate", CompressionTakeover, "permessage-deflate"},
		{"permessage-deflate", CompressionOn, "refused"}, // server_no_context_takeover was asked for (RFC 7692 §7.1.1.1)
		{"permessage-deflate; server_no_context_takeover", CompressionOn, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"permessage-deflate; server_max_window_bits=10", CompressionTakeover, "permessage-deflate; server_max_window_bits=10"},
		{"permessage-deflate; client_max_window_bits=10", CompressionTakeover, "permessage-deflate; client_no_context_takeover; client_max_window_bits=10"},
		{"permessage-deflate; client_max_window_bits=15", CompressionTakeover, "permessage-deflate; client_max_window_bits=15"},
		{"permessage-deflate; client_no_context_takeover", CompressionTakeover, "permessage-deflate; client_no_context_takeover"},
		{"permessage-deflate; client_max_window_bits", CompressionTakeover, "refused"},
		{"permessage-deflate; server_max_window_bits", CompressionTakeover, "refused"},
		{"permessage-deflate; server_max_window_bits=7", CompressionTakeover, "refused"},
		{"permessage-deflate; server_max_window_bits=16", CompressionTakeover, "refused"},
		{"permessage-deflate; server_max_window_bits=010", CompressionTakeover, "refused"},
		{"permessage-deflate; client_max_window_bits=16", CompressionTakeover, "refused"},
		{"permessage-deflate; server_no_context_takeover=1", CompressionTakeover, "refused"},
		{"permessage-deflate; client_no_context_takeover; client_no_context_takeover", CompressionTakeover, "refused"},
		{"permessage-deflate; other", CompressionTakeover, "refused"},
		{"other", CompressionTakeover, "refused"},
		{"permessage-deflate, permessage-deflate", CompressionTakeover, "refused"},
		{"permessage-deflate, other", CompressionTakeover, "refused"}, // it may want RSV1 as well
	} {
		answer, err := parseExtensions(c.answer, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, agreed, err := verifyDeflate(answer, c.mode, true)
		got := "none"
		switch {
		case err != nil:
			got = "refused"
		case agreed:
			got = string(p.append(nil))
		}
		if got != c.want {
			t.Errorf("%q, mode %d: %q, want %q", c.answer, c.mode, got, c.want)
		}
	}
}

// Whatever is agreed on, each side's deflater and the other's inflater fit.
func TestDeflateCodecsFit(t *testing.T) {
	for _, offer := range []string{
		"permessage-deflate", "permessage-deflate; server_no_context_takeover", "permessage-deflate; client_no_context_takeover",
		"permessage-deflate; server_max_window_bits=9", "permessage-deflate; client_max_window_bits=9",
	} {
		for _, mode := range []Compression{CompressionOn, CompressionTakeover} {
			t.Run(fmt.Sprintf("%s, %d", offer, mode), func(t *testing.T) {
				offers, _ := parseExtensions(offer, nil)
				p, _ := acceptDeflate(offers, mode, true)
				sz, sr := p.codecs(false)
				cz, cr := p.codecs(true)
				if sz.takeover != cr.takeover || cz.takeover != sr.takeover {
					t.Fatal("the sides disagree about takeover")
				}
				for i := range 5 {
					m := strings.Repeat(fmt.Sprintf("message %d, ", i), 500)
					for _, pair := range []struct {
						z *deflater
						r *inflater
					}{{sz, cr}, {cz, sr}} {
						if out, rule := pair.r.inflate(deflated(pair.z, []byte(m)), -1); rule != "" || string(out.b) != m {
							t.Fatalf("message %d: %q", i, rule)
						}
					}
				}
			})
		}
	}
}

// What is agreed on for a direction holds for who compresses there: no reference goes
// further back than the window, and where that is not the largest, none to an earlier
// message either.
func TestDeflateKeepsToWhatWasAgreed(t *testing.T) {
	for bits := windowBitsMin; bits <= windowBitsMax; bits++ {
		twice := bytes.Repeat(wsRandom(1<<bits+1), 2) // what is repeated lies just outside
		for _, client := range []bool{false, true} {
			members, err := parseExtensions(fmt.Sprintf("%s; %s=%d; %s=%d", deflateName, deflateServerBits, bits, deflateClientBits, bits), nil)
			if err != nil {
				t.Fatal(err)
			}
			p, ok := acceptDeflate(members, CompressionTakeover, true) // as an offer
			if client {
				p, ok, err = verifyDeflate(members, CompressionTakeover, true) // as an answer
			}
			if !ok || err != nil {
				t.Fatalf("%d bits, client %v: agreed %v, %v", bits, client, ok, err)
			}
			z, _ := p.codecs(client)
			first := deflated(z, twice)
			if len(first) < len(twice) {
				t.Errorf("%d bits, client %v: %d octets became %d", bits, client, len(twice), len(first))
			}
			if second := deflated(z, twice); bits < windowBitsMax && !bytes.Equal(second, first) {
				t.Errorf("%d bits, client %v: the same message is sent as %d octets, then as %d", bits, client, len(first), len(second))
			}
		}
	}
}

// A client whose messages may be dropped lets none refer to them.
func TestDroppedMessagesAreNotReferredTo(t *testing.T) {
	const half, count = 1 << 10, 100
	message := func(i int) []byte { // the first half is the second of the one before
		p := make([]byte, 2*half, 2*half+1)
		rand.NewChaCha8([32]byte{byte(i)}).Read(p[:half])
		rand.NewChaCha8([32]byte{byte(i + 1)}).Read(p[half:])
		return append(p, byte(i))
	}
	start, got := make(chan bool), make(chan error, 1)
	o := WebSocketOptions{Compression: CompressionTakeover, MaxMessageBytes: -1}
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, &o)
		if err != nil {
			return err
		}
		<-start
		ws.Read(context.Background()) // what has filled the way
		for seen := 0; ; seen++ {
			_, p, err := ws.Read(context.Background())
			switch {
			case err != nil:
			case len(p) == 0 && seen > 0 && seen < count:
				got <- nil
				return ws.Close(CloseNormal, "")
			case len(p) == 0:
				err = fmt.Errorf("%d messages of %d", seen, count)
			case !bytes.Equal(p, message(int(p[2*half]))):
				err = errors.New("a message is not what was sent")
			}
			if err != nil {
				got <- err
				return ws.Close(CloseNormal, "")
			}
		}
	})})
	o.QueuePolicy, o.MaxQueueBytes = QueueDropOldest, 16<<10
	ws := wsDial(t, url, o)
	ctx := wsPatience(t)
	first := make(chan error, 1)
	go func() { first <- ws.Write(ctx, BinaryMessage, wsRandom(32<<20)) }()
	eventually(t, "the way to be full", func() bool {
		ws.blocking().mu.Lock()
		defer ws.blocking().mu.Unlock()
		return ws.blocking().sending
	})
	for i := range count {
		if err := ws.Write(ctx, BinaryMessage, message(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ws.Write(ctx, BinaryMessage, nil); err != nil {
		t.Fatal(err)
	}
	close(start)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}
