// SPDX-License-Identifier: Apache-2.0

// Load keeps a TLS server busy, half of it over connections that stay, half with
// a handshake for each request. Each line on standard input asks how it went since
// the line before; the line "end" ends it, and is answered with the whole. It
// exits with 1 when a request has failed or a connection that should stay was
// lost.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

type counts struct {
	requests, handshakes, failed, lost atomic.Int64
	slowest                            atomic.Int64 // ns
}

func main() {
	address := flag.String("address", "", "of the server")
	workers := flag.Int("workers", 8, "how many ask at a time")
	flag.Parse()
	ctx, stop := context.WithCancel(context.Background())
	var now atomic.Pointer[counts]
	now.Store(&counts{})
	var wg sync.WaitGroup
	for i := range *workers {
		wg.Go(func() { work(ctx, *address, i%2 == 0, now.Load) })
	}
	var whole counts
	for s := bufio.NewScanner(os.Stdin); s.Scan() && s.Text() != "end"; {
		c := now.Swap(&counts{})
		time.Sleep(50 * time.Millisecond) // requests under way count for what was
		c.tell(s.Text())
		whole.add(c)
	}
	stop()
	wg.Wait()
	whole.add(now.Load())
	whole.tell("in all")
	if whole.failed.Load() > 0 || whole.lost.Load() > 0 {
		os.Exit(1)
	}
}

func (c *counts) tell(what string) {
	fmt.Printf("%s: %d requests, %d handshakes, %d failed, %d connections lost, slowest answer %.0f ms\n", what,
		c.requests.Load(), c.handshakes.Load(), c.failed.Load(), c.lost.Load(), float64(c.slowest.Load())/1e6)
}

func (c *counts) add(o *counts) {
	c.requests.Add(o.requests.Load())
	c.handshakes.Add(o.handshakes.Load())
	c.failed.Add(o.failed.Load())
	c.lost.Add(o.lost.Load())
	c.slowest.Store(max(c.slowest.Load(), o.slowest.Load()))
}

// work asks until ctx ends. It speaks HTTP by itself, as net/http's client
// sometimes gives up connections that are fine.
func work(ctx context.Context, address string, stay bool, now func() *counts) {
	var c *connection
	for ctx.Err() == nil {
		began := time.Now()
		var err error
		if c == nil {
			now().handshakes.Add(1)
			c, err = dial(ctx, address)
		}
		if err == nil {
			err = c.ask()
		}
		n, took := now(), int64(time.Since(began))
		n.requests.Add(1)
		if err != nil && ctx.Err() == nil {
			n.failed.Add(1)
			fmt.Fprintln(os.Stderr, err)
			if stay && c != nil {
				n.lost.Add(1)
			}
		}
		for was := n.slowest.Load(); took > was && !n.slowest.CompareAndSwap(was, took); was = n.slowest.Load() {
		}
		if c != nil && (err != nil || !stay) {
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

// connection is one to the server, after its handshake.
type connection struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, address string) (*connection, error) {
	d := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: limit},
		Config:    &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{c, bufio.NewReader(c)}, nil
}

// limit is how long one answer may take.
const limit = 20 * time.Second

func (c *connection) ask() error {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server says %s", res.Status)
	}
	return nil
}
