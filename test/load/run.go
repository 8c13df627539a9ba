// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

type options struct {
	url, name        string
	machines         int
	rate, changed    float64
	connections      int
	warmup, duration time.Duration
	figures          string
	pid              int
}

// result is what all connections saw.
type result struct {
	mu        sync.Mutex
	latency   *hdrhistogram.Histogram // microseconds
	unchanged atomic.Int64
	answered  atomic.Int64
	behind    atomic.Int64 // microseconds that the slowest connection lagged at its end
}

func measure(ctx context.Context, o options) error {
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("url %q: https://host:port is expected", o.url)
	}
	total := o.warmup + o.duration
	if o.duration == 0 {
		total = time.Duration(float64(o.machines) / o.rate * float64(time.Second))
	}
	r := &result{latency: hdrhistogram.New(1, 60_000_000, 3)}
	etags := make([]string, o.machines) // each belongs to one connection
	before := cpu(o.pid)
	start := time.Now().Add(100 * time.Millisecond)
	g, ctx := errgroup.WithContext(ctx)
	for c := range o.connections {
		g.Go(func() error {
			if err := connection(ctx, o, u, c, start, start.Add(total), etags, r); err != nil {
				return fmt.Errorf("connection %d: %w", c, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(start)
	used := cpu(o.pid) - before
	return r.tell(o, took, used)
}

// connection is the machines whose number is c modulo the connections, one
// after the other over one connection.
func connection(ctx context.Context, o options, u *url.URL, c int, start, end time.Time, etags []string, r *result) error {
	conn, err := dial(ctx, u)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in := bufio.NewReaderSize(conn, 16<<10)
	latency := hdrhistogram.New(1, 60_000_000, 3)
	period := time.Duration(float64(o.connections) / o.rate * float64(time.Second))
	due := start.Add(period * time.Duration(c) / time.Duration(o.connections))
	var buf []byte
	news := 0.0
	machine := c
	for round := int64(0); due.Before(end); due = due.Add(period) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		if news += o.changed; news >= 1 {
			news--
			round++
		}
		buf = request(buf[:0], u.Host, machine, int64(time.Since(start)/time.Second), round, etags[machine])
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		status, etag, err := answer(in)
		if err != nil {
			return err
		}
		took := time.Since(due)
		switch status {
		case 200:
			r.answered.Add(1)
		case 304:
			r.unchanged.Add(1)
		default:
			return fmt.Errorf("machine %d: HTTP status %d", machine, status)
		}
		etags[machine] = etag
		if due.Sub(start) >= o.warmup {
			_ = latency.RecordValue(min(max(took.Microseconds(), 1), 60_000_000))
		}
		if machine += o.connections; machine >= o.machines {
			machine = c
		}
	}
	lag := max(0, time.Since(end).Microseconds())
	for {
		old := r.behind.Load()
		if lag <= old || r.behind.CompareAndSwap(old, lag) {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latency.Merge(latency)
	return nil
}

func dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	if u.Scheme == "http" {
		return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	}
	// Its own machine's own server, and what is measured is time.
	d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} //nolint:gosec // see above
	return d.DialContext(ctx, "tcp", u.Host)
}

// answer reads one response and returns its status and ETag.
func answer(in *bufio.Reader) (status int, etag string, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, "", err
	}
	if len(line) < 12 {
		return 0, "", errors.New("no HTTP response")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, "", err
	}
	length := int64(0)
	chunked := false
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, "", err
		}
		line = trim(line)
		if len(line) == 0 {
			break
		}
		i := strings.IndexByte(string(line), ':')
		if i < 0 {
			continue
		}
		switch key, value := string(line[:i]), strings.TrimSpace(string(line[i+1:])); textproto.CanonicalMIMEHeaderKey(key) {
		case "Etag":
			etag = value
		case "Content-Length":
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return 0, "", err
			}
		case "Transfer-Encoding":
			chunked = value == "chunked"
		}
	}
	if status == 304 || status == 204 {
		return status, etag, nil
	}
	if chunked {
		return 0, "", errors.New("a chunked answer: the server did not know its length")
	}
	_, err = io.CopyN(io.Discard, in, length)
	return status, etag, err
}

func trim(line []byte) []byte {
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	return line
}

// tell prints the figures, and writes those that a script judges.
func (r *result) tell(o options, took, used time.Duration) error {
	n := r.unchanged.Load() + r.answered.Load()
	rate := float64(n) / took.Seconds()
	p := func(q float64) time.Duration { return time.Duration(r.latency.ValueAtQuantile(q)) * time.Microsecond }
	fmt.Printf("%s: %d in %.1f s, %.0f/s; %d unchanged (304), %d answered (200)\n", o.name, n, took.Seconds(), rate, r.unchanged.Load(), r.answered.Load())
	fmt.Printf("  latency from when they were due: p50 %v, p90 %v, p99 %v, p99.9 %v, max %v; the slowest connection was %v late at the end\n",
		p(50), p(90), p(99), p(99.9), p(100), time.Duration(r.behind.Load())*time.Microsecond)
	share, memory := 100*used.Seconds()/took.Seconds(), resident(o.pid)
	if o.pid > 0 {
		fmt.Printf("  server: %.0f %% of one core, %.0f MB resident\n", share, memory)
	}
	if o.figures == "" {
		return nil
	}
	return os.WriteFile(o.figures, fmt.Appendf(nil, "%.0f %.2f %.1f %.0f\n", rate, float64(p(99).Microseconds())/1000, share, memory), 0o644)
}

// cpu is the processor time that a process has used.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ") // after the name
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// resident is the memory of a process in MB.
func resident(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb / 1000
		}
	}
	return 0
}
