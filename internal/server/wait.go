// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api/client"
)

const (
	defaultWait = time.Minute
	// maxWaitersOfOne lets a machine whose connection died wait again before
	// the server has noticed.
	maxWaitersOfOne = 2
	// When all are woken, so many are at a time: what they ask for next comes
	// in a stream and not in a wave.
	wakeBatch = 500
	wakePause = 50 * time.Millisecond
)

// waiters are the machines that wait for something new.
type waiters struct {
	limit int

	mu    sync.Mutex
	count int
	byID  map[string][]chan struct{}
}

// join adds a waiter; nil if there are too many. leave takes it away.
func (w *waiters) join(id string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count >= w.limit || len(w.byID[id]) >= maxWaitersOfOne {
		return nil
	}
	ch := make(chan struct{}, 1)
	w.byID[id] = append(w.byID[id], ch)
	w.count++
	return ch
}

func (w *waiters) leave(id string, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
	list := w.byID[id]
	for i := range list {
		if list[i] == ch {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(w.byID, id)
	} else {
		w.byID[id] = list
	}
}

func (w *waiters) number() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// wake lets a machine look again whether its answer changed.
func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.byID[id] {
		poke(ch)
	}
}

// all returns every waiter there is.
func (w *waiters) all() []chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]chan struct{}, 0, w.count)
	for _, of := range w.byID {
		list = append(list, of...)
	}
	return list
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// wait answers GET /v1/machine/wait: 204 as soon as the answer to a check-in
// is another than the one with the ETag, 304 when the time is over.
func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	m, hash, err := s.machine(r)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	s.fleet.touch(m, hash[:], s.now()) // who waits is there
	q := r.URL.Query()
	timeout := defaultWait
	if t := q.Get("timeout"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > int(client.MaxWait/time.Second) {
			s.writeFault(w, r, refuse("TS7601", "query.timeout", "not 1 to "+strconv.Itoa(int(client.MaxWait/time.Second))+" seconds"))
			return
		}
		timeout = time.Duration(n) * time.Second
	}
	etag := q.Get("etag")
	if len(etag) > 64 {
		s.writeFault(w, r, refuse("TS7601", "query.etag", "not an ETag of this server"))
		return
	}
	ch := s.waiters.join(m.id)
	if ch == nil {
		s.metrics.waitersRefused.Inc()
		f := refuse("TS7610", "", "too many machines wait already: check in at the interval instead")
		f.retryAfter = int(s.interval.Load())
		s.writeFault(w, r, f)
		return
	}
	defer s.waiters.leave(m.id, ch)
	// The server's own limits are for requests that are answered at once.
	control := http.NewResponseController(w)
	deadline := time.Now().Add(timeout + 10*time.Second)
	_ = control.SetWriteDeadline(deadline) // not every connection has deadlines
	_ = control.SetReadDeadline(deadline)

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		v, err := s.seen(r.Context(), m)
		if err != nil {
			s.writeFault(w, r, err)
			return
		}
		m.mu.Lock()
		gone := m.gone
		m.mu.Unlock()
		if gone || v.etag() != etag {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		select {
		case <-ch:
		case <-timer.C:
			w.WriteHeader(http.StatusNotModified)
			return
		case <-s.closing:
			w.WriteHeader(http.StatusNotModified)
			return
		case <-r.Context().Done():
			return
		}
	}
}
