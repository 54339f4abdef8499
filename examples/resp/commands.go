package main

import (
	"math"
	"strconv"
	"time"
)

// This file is what each command does.

// A command appends its reply to b. args[0] is its name. The store is locked.
type command struct {
	args    int // with the name; negative: at least so many
	execute func(p *session, b []byte, args [][]byte) []byte
}

var commands = map[string]command{
	"PING":     {-1, (*session).ping},
	"ECHO":     {2, func(_ *session, b []byte, args [][]byte) []byte { return appendBulk(b, args[1]) }},
	"GET":      {2, (*session).get},
	"SET":      {-3, (*session).set},
	"DEL":      {-2, (*session).del},
	"EXISTS":   {-2, (*session).exists},
	"INCR":     {2, func(p *session, b []byte, args [][]byte) []byte { return p.add(b, args[1], 1) }},
	"DECR":     {2, func(p *session, b []byte, args [][]byte) []byte { return p.add(b, args[1], -1) }},
	"INCRBY":   {3, (*session).incrBy},
	"EXPIRE":   {3, func(p *session, b []byte, args [][]byte) []byte { return p.expire(b, args, time.Second) }},
	"PEXPIRE":  {3, func(p *session, b []byte, args [][]byte) []byte { return p.expire(b, args, time.Millisecond) }},
	"TTL":      {2, func(p *session, b []byte, args [][]byte) []byte { return p.ttl(b, args[1], time.Second) }},
	"PTTL":     {2, func(p *session, b []byte, args [][]byte) []byte { return p.ttl(b, args[1], time.Millisecond) }},
	"PERSIST":  {2, (*session).persist},
	"DBSIZE":   {1, func(p *session, b []byte, _ [][]byte) []byte { return appendInt(b, int64(len(p.store.entries))) }},
	"FLUSHALL": {-1, (*session).flush},
	"FLUSHDB":  {-1, (*session).flush},
	"SELECT":   {2, (*session).selectDB},
	"QUIT":     {-1, (*session).bye},

	// What redis-cli and redis-benchmark ask to know whom they talk to.
	"COMMAND": {-1, func(_ *session, b []byte, _ [][]byte) []byte { return appendArray(b, 0) }},
	"CONFIG":  {-2, (*session).config},
	"CLIENT":  {-2, func(_ *session, b []byte, _ [][]byte) []byte { return appendSimple(b, "OK") }},
	"INFO": {-1, func(_ *session, b []byte, _ [][]byte) []byte {
		return appendBulk(b, []byte("# Server\r\nflare:resp\r\n"))
	}},
}

const commandNameMax = 16 // more than the longest name has

// execute carries out one command and appends the reply to b.
func (p *session) execute(b []byte, args [][]byte) []byte {
	var upper [commandNameMax]byte
	name := args[0]
	if len(name) > len(upper) {
		return appendError(b, "ERR unknown command")
	}
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	switch string(upper[:len(name)]) { // the usual ones need not be looked up
	case "GET":
		if len(args) == 2 {
			return p.get(b, args)
		}
	case "SET":
		if len(args) == 3 {
			return p.set(b, args)
		}
	}
	cmd, ok := commands[string(upper[:len(name)])]
	switch {
	case !ok:
		return appendError(b, "ERR unknown command")
	case cmd.args >= 0 && len(args) != cmd.args, len(args) < -cmd.args:
		return appendError(b, "ERR wrong number of arguments")
	}
	return cmd.execute(p, b, args)
}

const (
	errSyntax  = "ERR syntax error"
	errInteger = "ERR value is not an integer or out of range"
	errExpire  = "ERR invalid expire time"
	errMemory  = "OOM command not allowed when used memory > 'maxmemory'."
)

func (p *session) ping(b []byte, args [][]byte) []byte {
	switch len(args) {
	case 1:
		return appendSimple(b, "PONG")
	case 2:
		return appendBulk(b, args[1])
	}
	return appendError(b, "ERR wrong number of arguments")
}

func (p *session) get(b []byte, args [][]byte) []byte {
	e := p.store.get(args[1])
	if e == nil {
		return appendNull(b)
	}
	return appendBulk(b, e.value)
}

// set is SET key value [EX seconds | PX milliseconds | KEEPTTL] [NX | XX].
func (p *session) set(b []byte, args [][]byte) []byte {
	var life time.Duration
	var missing, there, keep bool
	for i := 3; i < len(args); i++ {
		switch option := string(args[i]); {
		case (equalFold(option, "EX") || equalFold(option, "PX")) && i+1 < len(args) && life == 0 && !keep:
			unit := time.Second
			if option[0]|0x20 == 'p' {
				unit = time.Millisecond
			}
			i++
			n, ok := integer(args[i])
			if !ok {
				return appendError(b, errInteger)
			}
			if n <= 0 || n > int64(lifeMax/unit) {
				return appendError(b, errExpire)
			}
			life = time.Duration(n) * unit
		case equalFold(option, "KEEPTTL") && life == 0:
			keep = true
		case equalFold(option, "NX") && !there:
			missing = true
		case equalFold(option, "XX") && !missing:
			there = true
		default:
			return appendError(b, errSyntax)
		}
	}
	st := p.store
	if missing || there || keep {
		e := st.get(args[1])
		if missing && e != nil || there && e == nil {
			return appendNull(b)
		}
		if keep && e != nil && e.ttl != nil {
			life = st.left(e)
		}
	}
	if !st.set(args[1], args[2]) {
		return appendError(b, errMemory)
	}
	if life > 0 {
		st.expire(st.get(args[1]), life)
	}
	return append(b, "+OK\r\n"...)
}

// equalFold compares option with a name in capitals.
func equalFold(option, name string) bool {
	if len(option) != len(name) {
		return false
	}
	for i := range name {
		if option[i]&^0x20 != name[i] {
			return false
		}
	}
	return true
}

func (p *session) del(b []byte, args [][]byte) []byte {
	n := int64(0)
	for _, key := range args[1:] {
		if e := p.store.get(key); e != nil {
			p.store.remove(e)
			n++
		}
	}
	return appendInt(b, n)
}

func (p *session) exists(b []byte, args [][]byte) []byte {
	n := int64(0)
	for _, key := range args[1:] {
		if p.store.get(key) != nil {
			n++
		}
	}
	return appendInt(b, n)
}

func (p *session) incrBy(b []byte, args [][]byte) []byte {
	n, ok := integer(args[2])
	if !ok {
		return appendError(b, errInteger)
	}
	return p.add(b, args[1], n)
}

// add adds n to the number that key has. Its time to live goes on.
func (p *session) add(b, key []byte, n int64) []byte {
	e := p.store.get(key)
	sum := n
	if e != nil {
		old, ok := integer(e.value)
		if !ok {
			return appendError(b, errInteger)
		}
		if n > 0 && old > math.MaxInt64-n || n < 0 && old < math.MinInt64-n {
			return appendError(b, "ERR increment or decrement would overflow")
		}
		sum = old + n
	}
	var digits [20]byte // as many as an int64 can have, with its sign
	text := strconv.AppendInt(digits[:0], sum, 10)
	if e == nil {
		if !p.store.set(key, text) {
			return appendError(b, errMemory)
		}
	} else {
		p.store.bytes += int64(len(text) - len(e.value))
		e.value = append(e.value[:0], text...)
	}
	return appendInt(b, sum)
}

// integer reads a number in the one form that Redis takes: no sign but a minus,
// no leading zeros.
func integer(p []byte) (int64, bool) {
	digits := p
	if len(p) > 0 && p[0] == '-' {
		digits = p[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(p) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(p), 10, 64)
	return n, err == nil
}

// lifeMax is as far ahead as a key may be told to expire.
const lifeMax = 100 * 365 * 24 * time.Hour

func (p *session) expire(b []byte, args [][]byte, unit time.Duration) []byte {
	n, ok := integer(args[2])
	if !ok {
		return appendError(b, errInteger)
	}
	if n > int64(lifeMax/unit) {
		return appendError(b, errExpire)
	}
	e := p.store.get(args[1])
	switch {
	case e == nil:
		return appendInt(b, 0)
	case n <= 0:
		p.store.remove(e)
	default:
		p.store.expire(e, time.Duration(n)*unit)
	}
	return appendInt(b, 1)
}

// ttl answers how long key has to live, rounded; -1 is for ever, -2 not at all.
func (p *session) ttl(b, key []byte, unit time.Duration) []byte {
	e := p.store.get(key)
	switch {
	case e == nil:
		return appendInt(b, -2)
	case e.ttl == nil:
		return appendInt(b, -1)
	}
	return appendInt(b, int64((p.store.left(e)+unit/2)/unit))
}

func (p *session) persist(b []byte, args [][]byte) []byte {
	if e := p.store.get(args[1]); e != nil && p.store.persist(e) {
		return appendInt(b, 1)
	}
	return appendInt(b, 0)
}

func (p *session) flush(b []byte, _ [][]byte) []byte {
	p.store.clear()
	return appendSimple(b, "OK")
}

func (p *session) selectDB(b []byte, args [][]byte) []byte {
	if string(args[1]) != "0" {
		return appendError(b, "ERR DB index is out of range")
	}
	return appendSimple(b, "OK")
}

func (p *session) bye(b []byte, _ [][]byte) []byte {
	p.quit = true
	return appendSimple(b, "OK")
}

// config is CONFIG GET, of which there is one thing to be told: nothing is kept
// on a disk.
func (p *session) config(b []byte, args [][]byte) []byte {
	if !equalFold(string(args[1]), "GET") || len(args) != 3 {
		return appendError(b, "ERR unknown subcommand")
	}
	name, value := string(args[2]), ""
	switch name {
	case "save":
	case "appendonly":
		value = "no"
	default:
		return appendArray(b, 0)
	}
	return appendBulk(appendBulk(appendArray(b, 2), []byte(name)), []byte(value))
}
