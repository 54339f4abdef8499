package flare

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's table of limits has fields that exist, with the defaults that
// they have.
func TestReadmeLimits(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	lim := new(Server).limits()
	defaults := map[string]any{
		"MaxURIBytes":        lim.head.uriBytes,
		"MaxHeaderBytes":     lim.head.headerBytes,
		"MaxHeaders":         lim.head.headers,
		"MaxBodyBytes":       lim.bodyBytes,
		"MaxOutputBytes":     lim.conn.outputBytes,
		"HandshakeTimeout":   lim.conn.handshake,
		"HeadTimeout":        lim.conn.head,
		"BodyTimeout":        lim.conn.body,
		"IdleTimeout":        lim.conn.idle,
		"WriteTimeout":       lim.conn.write,
		"MinBodyRate":        lim.conn.bodyRate,
		"MinWriteRate":       lim.conn.writeRate,
		"MaxRequestsPerConn": lim.requests,
		"MaxConns":           -1,
		"MaxConnsPerIP":      -1,
		"MaxBufferedBytes":   "a quarter of memory",
		"DrainDelay":         new(Server).DrainDelay,
	}
	if share := systemMemory() / uint64(lim.buffered); share != 4 {
		t.Errorf("MaxBufferedBytes is one part in %d of memory", share)
	}
	_, limits, _ := strings.Cut(string(readme), "\n## Limits\n")
	limits, _, _ = strings.Cut(limits, "\n## ")
	limits, websocket, _ := strings.Cut(limits, "\n### Of a WebSocket\n")
	checkReadmeLimits(t, limits, reflect.TypeFor[Server](), defaults)
	linger := fmt.Sprintf("for %s of silence,\n%s in all and %s", limitText(lim.conn.lingerSilent), limitText(lim.conn.lingerAll), limitText(lim.conn.lingerBytes))
	if !strings.Contains(strings.Join(strings.Fields(limits), " "), strings.Join(strings.Fields(linger), " ")) {
		t.Errorf("README.md does not say %q", linger)
	}

	ws := new(WebSocketOptions).limits()
	checkReadmeLimits(t, websocket, reflect.TypeFor[WebSocketOptions](), map[string]any{
		"MaxMessageBytes": ws.messageBytes,
		"MaxQueueBytes":   ws.queueBytes,
		"WriteTimeout":    ws.write,
		"Heartbeat":       ws.heartbeat,
		"IdleTimeout":     int(ws.idle) - 1, // 0 is none here, which limitText calls what is negative
		"CloseTimeout":    ws.close,
	})
	handshake := fmt.Sprintf("%s by default", limitText(defaultHandshakeTimeout))
	if _, says, _ := strings.Cut(websocket, "`DialOptions.HandshakeTimeout`"); !strings.Contains(says, handshake) {
		t.Errorf("README.md does not say of HandshakeTimeout: %s", handshake)
	}
}

// checkReadmeLimits compares the rows of a table with the limits that a struct
// has, and all limits of the struct with those that the test knows.
func checkReadmeLimits(t *testing.T, table string, of reflect.Type, defaults map[string]any) {
	t.Helper()
	for _, field := range reflect.VisibleFields(of) {
		if _, known := defaults[field.Name]; !known && limitName.MatchString(field.Name) {
			t.Errorf("this test does not know the limit %s of %s", field.Name, of.Name())
		}
	}
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| ([^|]+) \\|").FindAllStringSubmatch(table, -1) {
		name, says := row[1], row[2]
		value, known := defaults[name]
		if _, exists := of.FieldByName(name); !exists || !known || listed[name] {
			t.Errorf("README.md has a limit %s, which this test or %s does not know, or has it twice", name, of.Name())
			continue
		}
		listed[name] = true
		if is := limitText(value); is != says {
			t.Errorf("README.md says that %s of %s is %s, it is %s", name, of.Name(), says, is)
		}
	}
	for name := range defaults {
		if !listed[name] {
			t.Errorf("README.md does not have the limit %s of %s", name, of.Name())
		}
	}
}

// limitName is how limits are called.
var limitName = regexp.MustCompile(`^(Max|Min)[A-Z]|(Timeout|Delay)$|^Heartbeat$`)

// limitText is how the README writes a limit.
func limitText(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case time.Duration:
		return fmt.Sprintf("%d s", value/time.Second)
	}
	switch n := reflect.ValueOf(value).Int(); {
	case n < 0:
		return "none"
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprint(n)
	}
}
