package flare

import (
	"bytes"
	"go/ast"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestConnMovesAreSane holds the table of moves to what a state machine with
// one end has to be.
func TestConnMovesAreSane(t *testing.T) {
	reached := map[connState]bool{stateIdle: true, stateHandshake: true} // with TLS it begins there
	for queue := []connState{stateIdle, stateHandshake}; len(queue) > 0; queue = queue[1:] {
		for _, to := range connMoves[queue[0]] {
			if !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for from := range connStates {
		moves := connMoves[from]
		if !reached[from] {
			t.Errorf("no way from idle to %v", from)
		}
		if from == stateClosed {
			if len(moves) > 0 {
				t.Errorf("closed moves to %v", moves)
			}
			continue
		}
		if !slices.Contains(moves, stateClosed) {
			t.Errorf("%v does not end", from)
		}
		if slices.Contains(moves, from) {
			t.Errorf("%v moves to itself: returning the same state means to wait", from)
		}
		for i, to := range moves {
			if slices.Contains(moves[:i], to) {
				t.Errorf("%v moves to %v twice", from, to)
			}
		}
		// What flush takes over, it has to be able to give back.
		if from != stateFlush && slices.Contains(moves, stateFlush) && !slices.Contains(connMoves[stateFlush], from) {
			t.Errorf("flush does not go back to %v", from)
		}
	}
}

// TestIllegalMovesPanic tries every pair of states.
func TestIllegalMovesPanic(t *testing.T) {
	for from := range connStates {
		for to := range connStates {
			c := &Conn{state: from}
			panicked := func() (p bool) {
				defer func() { p = recover() != nil }()
				c.setState(to)
				return
			}()
			legal := slices.Contains(connMoves[from], to)
			if panicked == legal {
				t.Errorf("%v to %v: panic %v, in the table %v", from, to, panicked, legal)
			}
			if want := from; !legal && c.state != want || legal && c.state != to {
				t.Errorf("%v to %v left %v", from, to, c.state)
			}
		}
	}
}

// TestConnStatesHaveNames holds the names to the states, one each.
func TestConnStatesHaveNames(t *testing.T) {
	for s := range connStates {
		if s.String() == "" || slices.Index(connStateNames[:], s.String()) != int(s) {
			t.Errorf("state %d is called %q", s, s)
		}
	}
}

// A switchingProtocol is a Protocol whose first octet leads to another.
type switchingProtocol struct{ second bool }

func (p *switchingProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	switch {
	case len(in) == 0:
		return 0, nil
	case !p.second:
		c.Switch(&switchingProtocol{second: true})
		return 1, nil
	}
	return len(in), c.Write(bytes.ToUpper(in))
}

func (p *switchingProtocol) Drained(*Conn)       {}
func (p *switchingProtocol) Closed(*Conn, error) {}

// TestEveryStateIsReached sends real requests, one input for each state, and
// notes in which state the connection touches its transport or its handler.
func TestEveryStateIsReached(t *testing.T) {
	var handling uint16
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		handling |= 1 << behindRequest(r).x.stream.ownConn().state
		return describe(w, r)
	})}
	f := newFeeder(t, s)
	request := head("POST / HTTP/1.1", "Content-Length: 5") + "hello"
	f.run(feed{pieces: octets(request, 1), half: true})
	f.run(feed{pieces: []string{request}, sendMax: 3})
	f.run(feed{pieces: octets(head("POST /ignore HTTP/1.1", "Content-Length: 70000")+strings.Repeat("x", 70000), 4096)})
	f.run(feed{pieces: []string{"bad\r\n", "more"}})
	for s := range stateSwitched {
		if (f.seen|handling)&(1<<s) == 0 {
			t.Errorf("never in state %v", s)
		}
	}
	if f.seen&(1<<stateClosed) == 0 {
		t.Error("never closed")
	}
	if handling != 1<<stateHandler {
		t.Errorf("handlers ran in the states %b", handling)
	}
	if f.seen&(1<<stateSwitched) != 0 {
		t.Error("HTTP alone has switched")
	}

	own := newFeeder(t, &Server{NewProtocol: func(*Conn) Protocol { return new(switchingProtocol) }})
	own.srv.data = newRoute()
	for _, pieces := range [][]string{{"1hello"}, octets("1hello", 1)} {
		if got := own.run(feed{pieces: pieces}); got.out != "HELLO" || !got.open {
			t.Errorf("%+v", got)
		}
	}
	if own.seen != 1<<stateSwitched|1<<stateClosed {
		t.Errorf("a protocol of its own was in the states %b", own.seen)
	}
}

// TestSwitchFromHTTP is the way into the switched state that an upgrade takes.
func TestSwitchFromHTTP(t *testing.T) {
	f := newFeeder(t, describingServer())
	c := f.newConn()
	c.state = stateHandler
	c.Switch(&switchingProtocol{second: true})
	if c.state != stateSwitched {
		t.Fatalf("state %v", c.state)
	}
	tr := &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte("hello")}}
	c.tr, c.edges = tr, ownRead
	c.drive(f.workset)
	c.Switch(&switchingProtocol{second: true}) // from one to the next is no move
	if string(tr.sent) != "HELLO" || c.state != stateSwitched {
		t.Errorf("sent %q, state %v", tr.sent, c.state)
	}
}

// TestStatesAsDocumented holds the picture in the package's documentation to
// the table. A line of it reads "NAME → NAME, NAME".
func TestStatesAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for from, moves := range connMoves {
		line := "//\t" + connState(from).String() + " →"
		for i, to := range moves {
			if i > 0 {
				line += ","
			}
			line += " " + to.String()
		}
		want.WriteString(line + "\n")
	}
	var got strings.Builder
	listing := false
	for line := range strings.Lines(string(doc)) {
		switch {
		case strings.HasPrefix(line, "// States of a connection:"):
			listing = true
		case listing && strings.HasPrefix(line, "//\t") && strings.Contains(line, " →"):
			got.WriteString(line)
		case listing && got.Len() > 0:
			listing = false
		}
	}
	if got.String() != want.String() {
		t.Errorf("doc.go says, behind \"States of a connection:\":\n%swant\n%s", got.String(), want.String())
	}
}

// TestOnePlaceForStates holds the source to it: the state of a connection is set
// in setState, how and why it ends in end, and nowhere else.
func TestOnePlaceForStates(t *testing.T) {
	setters := map[string]string{"ending": "end", "cause": "end", "state": "setState"}
	born := []string{"newOpening", "secure", "greet", "onPlain"} // nobody else knows the connection yet
	found := 0
	src := readSource(t, ".", nil)
	for name, file := range src.files {
		if strings.HasPrefix(name, "client_") {
			continue // their connections are others
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || slices.Contains(born, fn.Name.Name) {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				assign, ok := n.(*ast.AssignStmt)
				if !ok {
					return true
				}
				for _, to := range assign.Lhs {
					field, ok := to.(*ast.SelectorExpr)
					if !ok || !isConn(field.X) || setters[field.Sel.Name] == "" {
						continue
					}
					if found++; setters[field.Sel.Name] != fn.Name.Name {
						t.Errorf("%s sets %s, which is for %s to do", src.fset.Position(field.Pos()), field.Sel.Name, setters[field.Sel.Name])
					}
				}
				return true
			})
		}
	}
	if found != len(setters) {
		t.Errorf("%d assignments, want one for each of %d fields", found, len(setters))
	}
}

// isConn reports whether x is a connection by its name, which is always c or conn.
func isConn(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "c" || x.Name == "conn"
	case *ast.SelectorExpr:
		return x.Sel.Name == "c" || x.Sel.Name == "conn"
	}
	return false
}
