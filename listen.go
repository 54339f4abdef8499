package flare

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// This file is layer 4 (roles): listeners by addresses in text, one or many, and many
// as one. upgrade.go has those that an earlier program has left.

// A ListenConfig says how listeners are made. The zero value makes those that net.Listen
// makes.
type ListenConfig struct {
	// Control is as that of net.ListenConfig.
	Control func(network, address string, c syscall.RawConn) error

	// Mode are the permissions of Unix sockets in the file system; 0 leaves them to the
	// umask. On Linux nobody whom it does not allow can connect at any time.
	Mode fs.FileMode

	// Owner is who owns these sockets: "user", "user:group" or ":group", by names or
	// numbers; "" is the process.
	Owner string

	// Upgrader, when set, has the listeners of the program that this one takes over
	// from, and gives them to the next one.
	Upgrader *Upgrader
}

// Listen returns a listener for all of the addresses, which are
//
//   - "host:port" for TCP. Without a host, or with [::], both families are listened to,
//     with 0.0.0.0 IPv4 alone, and of a name each address that it has,
//   - "unix:/path", where a socket is removed that nobody listens to any more, or "unix:@name" for a name of Linux without a file,
//   - "systemd:name" for the sockets of that name (FileDescriptorName in their unit)
//     that systemd has started the program with; "systemd:" for all of them.
//
// With several sockets the listener stands for all: Server.Serve takes them one by one,
// and its Addr is the first. Where one cannot be made none is.
func (c *ListenConfig) Listen(ctx context.Context, addrs ...string) (net.Listener, error) {
	var all []net.Listener
	for _, addr := range addrs {
		some, err := c.listen(ctx, addr)
		if err != nil {
			(&listeners{all: all}).Close()
			return nil, err
		}
		all = append(all, some...)
	}
	switch len(all) {
	case 0:
		return nil, errors.New("flare: no address to listen on")
	case 1:
		return all[0], nil
	}
	return &listeners{all: all, accepted: make(chan accepted), closed: make(chan struct{})}, nil
}

// listen returns the listeners of one address: an earlier program's, or new ones.
func (c *ListenConfig) listen(ctx context.Context, addr string) (all []net.Listener, err error) {
	key := addr
	if c.Upgrader != nil {
		if key, all, err = c.Upgrader.inherit.claim(addr); err != nil {
			return nil, err
		}
	}
	if all == nil {
		kind, rest, _ := strings.Cut(addr, ":")
		switch kind {
		case "unix":
			var ln net.Listener
			ln, err = listenPath(ctx, net.ListenConfig{Control: c.Control}, rest, c.Mode, c.Owner)
			all = []net.Listener{ln}
		case "systemd":
			all, err = takeSystemd(rest)
		default:
			all, err = c.listenTCP(ctx, addr)
		}
	}
	if err != nil {
		return nil, err
	}
	if c.Upgrader != nil {
		c.Upgrader.keep(key, all)
	}
	return all, nil
}

// listenTCP returns a listener for each address of a host, all at one port.
func (c *ListenConfig) listenTCP(ctx context.Context, addr string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	hosts := []string{host}
	if _, err := netip.ParseAddr(host); err != nil && host != "" {
		if hosts, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
			return nil, err
		}
		slices.Sort(hosts)
		hosts = slices.Compact(hosts)
	}
	for tries := 0; ; tries++ {
		all, err := c.listenHosts(ctx, hosts, port)
		if port != "0" || tries == portTries || !errors.Is(err, syscall.EADDRINUSE) {
			return all, err
		}
	}
}

// portTries is how often a port that the system has chosen for one address is tried
// with the others, which may not have it to spare.
const portTries = 20

// listenHosts listens at the port of all hosts, 0 being one of the system's choice.
func (c *ListenConfig) listenHosts(ctx context.Context, hosts []string, port string) (all []net.Listener, err error) {
	config := net.ListenConfig{Control: c.Control}
	var lacks error
	for _, host := range hosts {
		network := "tcp"
		if host == "0.0.0.0" {
			network = "tcp4"
		}
		ln, err := config.Listen(ctx, network, net.JoinHostPort(host, port))
		if missing := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT); missing && len(hosts) > 1 {
			lacks = err // a name may have addresses of a family that the machine does not
			continue
		}
		if err != nil {
			(&listeners{all: all}).Close()
			return nil, err
		}
		if at, ok := ln.Addr().(*net.TCPAddr); ok {
			port = strconv.Itoa(at.Port)
		}
		all = append(all, ln)
	}
	if all == nil {
		return nil, lacks
	}
	return all, nil
}

// listeners are several that stand as one.
type listeners struct {
	all []net.Listener // fixed

	// Of Accept, which servers that do not know this type call.
	begin    sync.Once
	accepted chan accepted
	end      sync.Once
	closed   chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns a connection of any of the listeners, or an error of one.
func (l *listeners) Accept() (net.Conn, error) {
	l.begin.Do(func() {
		for _, ln := range l.all {
			go l.acceptFrom(ln)
		}
	})
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listeners) acceptFrom(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		select {
		case l.accepted <- accepted{conn, err}:
		case <-l.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

func (l *listeners) Addr() net.Addr { return l.all[0].Addr() }

func (l *listeners) Close() error {
	l.end.Do(func() {
		if l.closed != nil {
			close(l.closed)
		}
	})
	var errs []error
	for _, ln := range l.all {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}
