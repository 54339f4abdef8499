package flare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file is layer 4 (roles): what a program inherits from the one that it replaces:
// listeners, and whom to tell that it is ready. upgrade.go has the old program's side.

const (
	// upgradeVariable names the descriptor by which a program is given listeners.
	upgradeVariable = "FLARE_UPGRADE"

	upgradeReady = "ready\n"

	// inheritTimeout is how long the old program may take to send the listeners, which
	// it does at once.
	inheritTimeout = 10 * time.Second
)

// An inheritance is what an Upgrader was given by the program before.
type inheritance struct {
	mu     sync.Mutex
	asked  bool
	err    error
	from   *net.UnixConn  // nil: there was none, or it knows that this one is ready
	left   []keptListener // what was not claimed
	claims map[string]int // how often an address was claimed
}

// A keptListener is one that a program gives to the next.
type keptListener struct {
	key string
	net.Listener
}

// claim returns the listeners that the program before had of an address, and the key
// by which the next one will find them.
func (in *inheritance) claim(addr string) (key string, all []net.Listener, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.receive(); in.err != nil {
		return "", nil, in.err
	}
	// An address may be listened on several times, by SO_REUSEPORT.
	key = strconv.Itoa(in.claims[addr]) + " " + addr
	in.claims[addr]++
	in.left = slices.DeleteFunc(in.left, func(k keptListener) bool {
		if k.key == key {
			all = append(all, k.Listener)
		}
		return k.key == key
	})
	return key, all, nil
}

// receive takes the inheritance, once.
func (in *inheritance) receive() {
	if in.asked {
		return
	}
	in.asked, in.claims = true, make(map[string]int)
	if text, ok := os.LookupEnv(upgradeVariable); ok {
		os.Unsetenv(upgradeVariable) // programs that are started now inherit nothing
		if in.err = in.receiveFrom(text, inheritTimeout); in.err != nil {
			in.err = fmt.Errorf("flare: listeners of the program before: %w", in.err)
		}
	}
}

func (in *inheritance) receiveFrom(descriptor string, limit time.Duration) error {
	fd, err := strconv.Atoi(descriptor)
	if err != nil {
		return err
	}
	if in.from, err = pairEnd(fd); err != nil {
		return err
	}
	in.from.SetReadDeadline(time.Now().Add(limit)) // to say that it is ready this one has its own time
	text := make([]byte, 4<<10)
	n, fds, err := recvDescriptors(in.from, text)
	text = text[:n]
	for _, fd := range fds {
		ln, failed := descriptorListener(fd)
		if failed != nil {
			err = failed
			continue
		}
		in.left = append(in.left, keptListener{Listener: ln})
	}
	for err == nil && !bytes.HasSuffix(text, []byte("\n")) {
		more := make([]byte, 4<<10)
		n, err = in.from.Read(more)
		text = append(text, more[:n]...)
	}
	var keys []string
	if err == nil {
		err = json.Unmarshal(text, &keys)
	}
	if err == nil && len(keys) != len(in.left) {
		err = io.ErrUnexpectedEOF
	}
	for i, key := range keys[:min(len(keys), len(in.left))] {
		in.left[i].key = key
		if ln, ok := in.left[i].Listener.(*net.UnixListener); ok {
			ln.SetUnlinkOnClose(false) // the path is the old program's until this one is ready
		}
	}
	return err
}

// unlinkOnClose says whether the path of a Unix socket goes with it.
func (k *keptListener) unlinkOnClose(unlink bool) {
	_, addr, _ := strings.Cut(k.key, " ")
	if ln, ok := k.Listener.(*net.UnixListener); ok && strings.HasPrefix(addr, "unix:") {
		ln.SetUnlinkOnClose(unlink)
	}
}

// ready tells the program before, if there is one, and closes what was not claimed.
func (in *inheritance) ready() (told bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.receive()
	if in.from != nil {
		_, err := in.from.Write([]byte(upgradeReady))
		told = err == nil // else it is gone, and this one serves all the same
		in.from.Close()
		in.from = nil
	}
	for _, k := range in.left {
		k.unlinkOnClose(true)
		k.Close()
	}
	in.left = nil
	return told
}
