package flare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// This file is layer 4 (roles): listeners on Unix sockets: what an earlier program has
// left at their paths, and who may connect.

// listenPath listens at a path, or with an "@" in front by a name of Linux. A mode of 0
// and an owner of "" stay as they are.
func listenPath(ctx context.Context, config net.ListenConfig, path string, mode fs.FileMode, owner string) (net.Listener, error) {
	if strings.HasPrefix(path, "@") {
		return config.Listen(ctx, "unix", path)
	}
	uid, gid, err := ownerOf(owner)
	if err != nil {
		return nil, err
	}
	if control := config.Control; mode != 0 {
		config.Control = func(network, address string, raw syscall.RawConn) error {
			// Until it has its owner and mode, nobody else connects.
			if err := modeOfSocket(raw, uint32(mode.Perm()&0o700)); err != nil || control == nil {
				return err
			}
			return control(network, address, raw)
		}
	}
	unlock := lockFolder(filepath.Dir(path))
	defer unlock()
	removeStale(path)
	ln, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if owner != "" {
		err = os.Lchown(path, uid, gid)
	}
	if mode != 0 && err == nil {
		err = os.Chmod(path, mode.Perm())
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// removeStale removes a socket from path that nobody listens to any more. Whatever else
// is there stays. The folder is locked, or another program's new socket could be taken
// for the old one.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		return
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(path)
	}
}

// ownerOf returns the numbers of "user", "user:group" or ":group", -1 for none.
func ownerOf(owner string) (uid, gid int, err error) {
	name, group, _ := strings.Cut(owner, ":")
	uid, err = idOf(name, func() (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return 0, 0, err
	}
	gid, err = idOf(group, func() (string, error) {
		g, err := user.LookupGroup(group)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return uid, gid, err
}

// idOf returns what is a number already, or looks it up.
func idOf(name string, lookup func() (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	text, err := lookup()
	if err != nil {
		return 0, fmt.Errorf("flare: the owner of a Unix socket: %w", err)
	}
	return strconv.Atoi(text)
}
