package flare

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A limitsTable is a section of LIMITS.md with the struct whose fields its rows
// are, and the defaults that the code has.
type limitsTable struct {
	heading  string
	of       reflect.Type
	defaults map[string]any
}

// limitsTables are all tables of LIMITS.md.
func limitsTables() []limitsTable {
	server := new(Server).limits()
	ws := new(WebSocketOptions).limits()
	conn := new(ConnOptions).limits()
	client := new(Client)
	client.prepare()
	return []limitsTable{
		{"Of a server", reflect.TypeFor[Server](), map[string]any{
			"MaxURIBytes":        server.head.uriBytes,
			"MaxHeaderBytes":     server.head.headerBytes,
			"MaxHeaders":         server.head.headers,
			"MaxBodyBytes":       server.bodyBytes,
			"MaxOutputBytes":     server.conn.outputBytes,
			"HandshakeTimeout":   server.conn.handshake,
			"HeadTimeout":        server.conn.head,
			"BodyTimeout":        server.conn.body,
			"IdleTimeout":        server.conn.idle,
			"WriteTimeout":       server.conn.write,
			"MinBodyRate":        server.conn.bodyRate,
			"MinWriteRate":       server.conn.writeRate,
			"MaxRequestsPerConn": server.requests,
			"MaxConnAge":         -1,
			"MaxConnAgeGrace":    -1,
			"MaxConns":           -1,
			"MaxConnsPerIP":      -1,
			"MaxBufferedBytes":   "a quarter of memory",
			"DrainDelay":         new(Server).DrainDelay,
		}},
		{"Of an Upgrader", reflect.TypeFor[Upgrader](), map[string]any{"ReadyTimeout": defaultReadyTimeout}},
		{"Of sessions", reflect.TypeFor[MemorySessions](), map[string]any{"MaxSessions": fmt.Sprint(sessionsDefault)}},
		{"Of files", reflect.TypeFor[Files](), map[string]any{"MaxOpenFiles": openFilesDefault}},
		{"Of a Limiter", reflect.TypeFor[Limiter](), map[string]any{
			"Max":          new(Limiter).max(),
			"MaxQueue":     "`Max`",
			"QueueTimeout": limiterQueueTimeout,
			"MaxLag":       -1,
		}},
		{"Of a RateLimiter", reflect.TypeFor[RateLimiter](), map[string]any{
			"Rate":       rateLimiterRate,
			"Burst":      "`Rate`",
			"MaxClients": "10,000",
		}},
		{"Of a hub of events", reflect.TypeFor[Hub](), map[string]any{
			"MaxQueueBytes": new(Hub).queueBytesMax(),
			"MaxHistory":    new(Hub).MaxHistory - 1, // 0 is none here, which limitText calls what is negative
			"Heartbeat":     heartbeatDefault,
		}},
		{"Of a WebSocket", reflect.TypeFor[WebSocketOptions](), map[string]any{
			"MaxMessageBytes": ws.messageBytes,
			"MaxQueueBytes":   ws.queueBytes,
			"WriteTimeout":    ws.write,
			"Heartbeat":       ws.heartbeat,
			"IdleTimeout":     int(ws.idle) - 1, // 0 is none here, which limitText calls what is negative
			"CloseTimeout":    ws.close,
		}},
		{"Of a client", reflect.TypeFor[Client](), map[string]any{
			"Timeout":             int(client.cfg.timeout) - 1, // 0 is none here too
			"DialTimeout":         client.cfg.dialTimeout,
			"HandshakeTimeout":    client.cfg.handshakeTimeout,
			"WriteTimeout":        client.cfg.writeTimeout,
			"ResponseTimeout":     client.cfg.responseTimeout,
			"ContinueTimeout":     client.cfg.continueTimeout,
			"BodyTimeout":         client.cfg.bodyTimeout,
			"IdleTimeout":         client.pool.idleTimeout,
			"MaxIdleConns":        client.pool.totalMax,
			"MaxIdleConnsPerHost": client.pool.perRouteMax,
			"MaxRedirects":        client.cfg.redirectsMax,
			"MaxHeaderBytes":      client.cfg.head.headerBytes,
			"MaxHeaders":          client.cfg.head.headers,
			"MaxBodyBytes":        client.cfg.bodyBytesMax,
			"MaxBufferedBytes":    client.cfg.bufferedBytesMax,
			"MaxDecodedBytes":     decodedBytesDefault,
			"MaxDecodeRatio":      decodedRatioDefault,
		}},
		{"Of a protocol of yours", reflect.TypeFor[ConnOptions](), map[string]any{
			"ConnectTimeout": defaultConnectTimeout,
			"IdleTimeout":    conn.idle,
			"WriteTimeout":   conn.write,
			"MaxOutputBytes": conn.outputBytes,
			"MaxInputBytes":  conn.inputBytes,
			"MaxConns":       -1,
		}},
	}
}

// LIMITS.md has all limits of the structs, and the defaults that they have.
func TestLimitsTables(t *testing.T) {
	text, err := os.ReadFile("LIMITS.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := limitsTables()
	for _, table := range tables {
		table.check(t, limitsSection(string(text), table.heading))
	}
	if n := strings.Count(string(text), "\n## "); n != len(tables) {
		t.Errorf("LIMITS.md has %d sections, %d are checked", n, len(tables))
	}
}

// What LIMITS.md says in words is so too.
func TestLimitsText(t *testing.T) {
	text, err := os.ReadFile("LIMITS.md")
	if err != nil {
		t.Fatal(err)
	}
	lim := new(Server).limits()
	if share := systemMemory() / uint64(lim.buffered); share != 4 {
		t.Errorf("MaxBufferedBytes is one part in %d of memory", share)
	}
	for _, want := range []struct{ heading, text string }{
		{"Of a server", fmt.Sprintf("for %s of silence and %s in all", limitText(lim.conn.lingerSilent), limitText(lim.conn.lingerAll))},
		{"Of a server", fmt.Sprintf("at most %d parts and %s of fields", formPartsMax, limitText(formFieldBytes))},
		{"Of a server", fmt.Sprintf("Of its files %s is held in memory", limitText(formFileBytesMax))},
		{"Of an Upgrader", fmt.Sprintf("has %s for it, then it is killed. At most 253 sockets", limitText(upgradeKill))},
		{"Of sessions", fmt.Sprintf("at most %d bytes in its cookie", sessionBytesMax)},
		{"Of files", fmt.Sprintf("closed after %s, when", limitText(fileIdle))},
		{"Of files", fmt.Sprintf("at most %d ranges, or they are ignored; a listing has at most %d entries", rangesMax, listedMax)},
		{"Of a hub of events", fmt.Sprintf("up to %s on the way", limitText(streamBytes))},
		{"Of a WebSocket", fmt.Sprintf("a client together, %s by default", limitText(defaultHandshakeTimeout))},
		{"Of a client", fmt.Sprintf("may send %d interim ones", interimMax)},
		{"Of a client", fmt.Sprintf("remembers of %d servers", http2RoutesMax)},
		{"Of a client", fmt.Sprintf("`DialTLS`, %s each by default", limitText(defaultDialTimeout))},
		{"Of a protocol of yours", fmt.Sprintf("less than %s bytes a second", limitText((&ConnOptions{}).limits().writeRate))},
	} {
		if section := strings.Join(strings.Fields(limitsSection(string(text), want.heading)), " "); !strings.Contains(section, want.text) {
			t.Errorf("LIMITS.md does not say %q in %q", want.text, want.heading)
		}
	}
	if defaultDialTimeout != defaultHandshakeTimeout {
		t.Error("Dialer.Timeout and Dialer.HandshakeTimeout differ, which LIMITS.md does not say")
	}
}

// limitsHTTP2 are the bounds of HTTP/2 that are no fields: the rows of the tables
// in the sections of LIMITS.md, with the defaults that the code has.
func limitsHTTP2() map[string]map[string]string {
	server, client := new(Server).http2Config(), newHTTP2ClientConfig(nil, nil, &headLimits{})
	ping := func(after, timeout time.Duration) string {
		return fmt.Sprintf("a PING after %s, %s for the answer", limitText(after), limitText(timeout))
	}
	spent := func(earned int, by string) string {
		return fmt.Sprintf("%d at once; %d for each %s, %d a second", http2BudgetMax, earned, by, http2BudgetRate)
	}
	return map[string]map[string]string{
		"Of a server": {
			"streams at once, a reset one included until its handler has returned":    limitText(server.streams),
			"octets of a request's body ahead of its handler; of all on a connection": limitText(server.streamWindow) + "; " + limitText(server.connWindow),
			"silence while streams are open":                                          ping(server.pingAfter, server.pingTimeout),
			"resets, SETTINGS, PING, PRIORITY, unknown and empty frames":              spent(1, "answered request"),
			"WINDOW_UPDATE, PING and PRIORITY_UPDATE beside those":                    fmt.Sprintf("%d for each DATA frame sent, %d for each KiB of it", http2SmallPerFrame, 1<<10/http2SmallOctets),
			"answers to control frames that the client does not read":                 limitText(http2ControlMax),
			"the encoded form of a field section":                                     "twice what its fields may have",
			"octets of a response ahead of the client":                                limitText(http2QueueBytes) + " a stream",
		},
		"Of a client": {
			"octets of a response's body ahead of its reader; of all on a connection":         fmt.Sprintf("%s, %s for a reader that keeps up; %s", limitText(client.streamWindow), limitText(client.windowMax), limitText(client.connWindow)),
			"octets that the windows of all streams are grown by":                             limitText(windowsMax),
			"streams at once, before the server has said how many it takes":                   limitText(http2StreamsFirst),
			"octets that are queued when another body is to be sent":                          limitText(http2QueueMax),
			"resets, SETTINGS, PING, unknown and empty frames, and frames on closed streams":  spent(budgetResponse, "response"),
			"the encoded form of a field section":                                             "twice what its fields may have",
			"streams that were reset, on which the server may still send what it was allowed": fmt.Sprintf("%d; frames on older ones count as on closed ones", resetsKept),
			"silence while streams are open":                                                  ping(client.pingAfter, client.pingTimeout),
		},
	}
}

// LIMITS.md has the bounds of HTTP/2 of both sides, and no others.
func TestLimitsHTTP2(t *testing.T) {
	text, err := os.ReadFile("LIMITS.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, rows := range limitsHTTP2() {
		_, table, _ := strings.Cut(limitsSection(string(text), heading), "| what is bounded | default | on breach |\n|---|---|---|\n")
		table, _, _ = strings.Cut(table, "\n\n")
		says := make(map[string]string)
		for line := range strings.Lines(table) {
			cells := strings.Split(line, " | ")
			says[strings.TrimPrefix(cells[0], "| ")] = cells[1]
		}
		if !maps.Equal(says, rows) {
			t.Errorf("LIMITS.md has in %q\n%q, the code\n%q", heading, says, rows)
		}
	}
}

// limitsSection returns what stands under a heading.
func limitsSection(text, heading string) string {
	_, section, _ := strings.Cut(text, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// check compares the rows of a section with the limits that the struct has, and
// all limits of the struct with those that this test knows.
func (table *limitsTable) check(t *testing.T, section string) {
	t.Helper()
	name := table.of.Name()
	for _, field := range reflect.VisibleFields(table.of) {
		if _, known := table.defaults[field.Name]; !known && field.IsExported() && limitName.MatchString(field.Name) {
			t.Errorf("this test does not know the limit %s of %s", field.Name, name)
		}
	}
	listed := make(map[string]bool)
	for _, row := range limitRow.FindAllStringSubmatch(section, -1) {
		limit, says := row[1], row[2]
		value, known := table.defaults[limit]
		if _, exists := table.of.FieldByName(limit); !exists || !known || listed[limit] {
			t.Errorf("LIMITS.md has a limit %s that this test or %s does not know, or has it twice", limit, name)
			continue
		}
		listed[limit] = true
		if is := limitText(value); is != says {
			t.Errorf("LIMITS.md says that %s of %s is %s, it is %s", limit, name, says, is)
		}
	}
	for limit := range table.defaults {
		if !listed[limit] {
			t.Errorf("LIMITS.md does not have the limit %s of %s", limit, name)
		}
	}
}

var (
	// limitRow is a row of a table: the field, and its default in the third column.
	limitRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| [^|]+ \\| ([^|]+) \\|")

	// limitName is how fields that are limits are called.
	limitName = regexp.MustCompile(`^(Max|Min)[A-Z]|Timeout$|\wDelay$|^Heartbeat$`)
)

// limitText is how LIMITS.md writes a limit.
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
