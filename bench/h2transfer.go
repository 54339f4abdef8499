//go:build linux

package main

// This file is the workload h2-transfer: long bodies over HTTP/2 in both directions, on one stream and
// on sixteen at once. What arrives has to be what was sent, and the most that the process ever had in
// memory may not grow by more than windows.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	h2TransferGrowthMax = 8 << 20 // bytes of VmHWM
	h2TransferMany      = 16
)

// A h2transfer is bodies in one direction, all at once on one connection.
type h2transfer struct {
	kind    string
	upload  bool
	streams int
	size    int64 // of each
}

var h2transfers = []h2transfer{
	{"upload", true, 1, transferFast},
	{"download", false, 1, transferFast},
	{"16 uploads", true, h2TransferMany, transferThrottled},
	{"16 downloads", false, h2TransferMany, transferThrottled},
}

func (t *h2transfer) up(client *http.Client, addr string) error {
	sum := sha256.New()
	body := &pacedBody{left: t.size, sum: sum}
	resp, err := client.Post("http://"+addr+"/upload", "application/octet-stream", io.MultiReader(body)) // of no known length
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var got struct {
		Bytes  int64
		SHA256 string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	if want := hex.EncodeToString(sum.Sum(nil)); resp.ProtoMajor != 2 || got.Bytes != t.size || got.SHA256 != want {
		return fmt.Errorf("%s: %d bytes with sum %s arrived of %d with %s", resp.Proto, got.Bytes, got.SHA256, t.size, want)
	}
	return nil
}

func (t *h2transfer) down(client *http.Client, addr string, want []byte) error {
	resp, err := client.Get(fmt.Sprintf("http://%s/bytes?n=%d", addr, t.size))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	if err != nil {
		return err
	}
	if resp.ProtoMajor != 2 || n != t.size || !bytes.Equal(sum.Sum(nil), want) {
		return errors.New("what arrived is not what was asked for")
	}
	return nil
}

// run moves all bodies at once.
func (t *h2transfer) run(addr string) error {
	client := asker(nil, false)
	client.Timeout = transferPatience
	defer client.CloseIdleConnections()
	sum := sha256.New()
	if !t.upload {
		io.Copy(io.Discard, &pacedBody{left: t.size, sum: sum})
	}
	want := sum.Sum(nil)
	if err := askPlaintext(client, addr); err != nil { // the connection that all of them take
		return err
	}
	return each(t.streams, func(int) error {
		if t.upload {
			return t.up(client, addr)
		}
		return t.down(client, addr, want)
	})
}

func askPlaintext(client *http.Client, addr string) error {
	resp, err := client.Get("http://" + addr + "/plaintext")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != wantBody {
		return fmt.Errorf("body %q, %v", body, err)
	}
	return nil
}

// measureHTTP2Transfer makes one transfer against a fresh process.
func (b *bencher) measureHTTP2Transfer(ctx context.Context, t *target, kind *h2transfer) (*boundRow, error) {
	p, addr, err := b.serveHTTP2(ctx, t, nil, "-max-body", "-1")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	client := asker(nil, false)
	defer client.CloseIdleConnections()
	if err := askPlaintext(client, addr); err != nil {
		return nil, err
	}
	r := &boundRow{Workload: "h2-transfer", Target: t.name, Kind: kind.kind}
	return r, r.measureGrowth(p.cmd.Process.Pid, kind.size*int64(kind.streams), h2TransferGrowthMax, func() error { return kind.run(addr) })
}

func (b *bencher) runHTTP2Transfer(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	return transferRows(ctx, "h2-transfer", h2TransferGrowthMax, http2Targets(targets, nameFlare), h2transfers, b.measureHTTP2Transfer, out, log)
}
