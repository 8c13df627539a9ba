// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

const (
	// maxStreams bounds the streams of events: what does not get one asks again
	// at an interval.
	maxStreams    = 1000
	maxStreamsOf  = 50 // of one caller
	maxChangedIDs = 20 // of a kind in one event; where there are more, none is named
	// eventPause is the least time between two events of a stream: in a fleet
	// where something changes all the time, that is how often a page asks again.
	eventPause = time.Second
	// eventBeat is how often a stream says that it is there, and is asked again
	// whether its caller still may have it.
	eventBeat = 15 * time.Second
	// eventLife ends a stream; the client opens another, at a server of the balancer's choice.
	eventLife = time.Hour
)

// streams are those who are told what changes. What is told is only of which
// kind it is and, for some kinds, its id: who wants to know more asks for it,
// and is asked for permission then.
type streams struct {
	mu      sync.Mutex
	all     map[*stream]bool
	byName  map[string]int
	started int64                // the change that this server began after
	seq     int64                // the latest
	last    map[store.Kind]int64 // the latest of each kind
}

// stream is one listener: bounded, however slowly it reads.
type stream struct {
	caller string
	woken  chan struct{}
	// Under the lock of streams.
	all     bool // anything may have changed
	pending map[store.Kind][]string
	seq     int64
}

func newStreams(seq int64) *streams {
	return &streams{all: map[*stream]bool{}, byName: map[string]int{}, started: seq, seq: seq, last: map[store.Kind]int64{}}
}

// join adds a listener that has heard of everything up to a change; one that
// has heard of nothing ("") wants only what comes. nil: there are too many.
func (s *streams) join(caller, heard string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxStreams || s.byName[caller] >= maxStreamsOf {
		return nil
	}
	l := &stream{caller: caller, woken: make(chan struct{}, 1), pending: map[store.Kind][]string{}, seq: s.seq}
	s.all[l] = true
	s.byName[caller]++
	if heard != "" {
		n, err := strconv.ParseInt(heard, 10, 64)
		if err != nil || n < s.started || n > s.seq {
			l.all = true // another server told it, or this one before it was restarted
		}
		for k, last := range s.last {
			if last > n {
				l.pending[k] = nil
			}
		}
	}
	poke(l.woken) // it is told at once where it stands
	return l
}

func (s *streams) leave(l *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, l)
	if s.byName[l.caller]--; s.byName[l.caller] <= 0 {
		delete(s.byName, l.caller)
	}
}

// tell lets all listeners know of changes, which are in order.
func (s *streams) tell(changes []store.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		s.seq = c.Seq
		s.last[c.Kind] = c.Seq
	}
	for l := range s.all {
		for _, c := range changes {
			ids, any := l.pending[c.Kind]
			switch {
			case any && ids == nil || slices.Contains(ids, c.ID):
			case len(ids) >= maxChangedIDs || !named(c.Kind):
				l.pending[c.Kind] = nil
			default:
				l.pending[c.Kind] = append(ids, c.ID)
			}
		}
		l.seq = s.seq
		poke(l.woken)
	}
}

// take takes what a listener has not been told yet, and how far that goes.
func (s *streams) take(l *stream) (api.Changed, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := api.Changed{All: l.all, Kinds: make(map[string][]string, len(l.pending))}
	for k, ids := range l.pending {
		c.Kinds[string(k)] = append([]string{}, ids...)
	}
	clear(l.pending)
	l.all = false
	return c, l.seq
}

func (s *streams) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// named are the kinds whose ids are told: the others' are of people and secrets.
func named(k store.Kind) bool {
	switch k {
	case store.KindMachine, store.KindLivePatch, store.KindJob, store.KindPolicy, store.KindTier:
		return true
	}
	return false
}

// concernsPeople reports whether who is told may be no more who they were.
func concernsPeople(c api.Changed) bool {
	_, operator := c.Kinds[string(store.KindOperator)]
	_, user := c.Kinds[string(store.KindUser)]
	return c.All || operator || user
}

// events answers GET /v1/events with a stream of server-sent events, until the
// client goes, its permission ends, or the server does.
func (s *Server) events(w http.ResponseWriter, r *http.Request, o operator) error {
	heard := r.Header.Get("Last-Event-ID")
	if len(heard) > 20 {
		return refuse("TS7601", "header.Last-Event-ID", "not the id of an event")
	}
	l := s.streams.join(o.id(), heard)
	if l == nil {
		f := refuse("TS7610", "", "too many pages are told of changes already: ask at an interval instead")
		f.retryAfter = 60
		return f
	}
	defer s.streams.leave(l)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep it back
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's limits are for requests that are answered at once
	say := func(format string, a ...any) bool {
		_ = control.SetWriteDeadline(time.Now().Add(2 * eventBeat)) // not every connection has deadlines
		_, err := fmt.Fprintf(w, format, a...)
		return err == nil && control.Flush() == nil
	}
	life := time.NewTimer(eventLife)
	defer life.Stop()
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	woken := l.woken // nil while it has just been told something
	var pause <-chan time.Time
	var err error
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		case <-life.C:
			return nil
		case <-beat.C:
			// A session that ended, or a key that was revoked, hears no more.
			if o, err = s.operator(r, "events"); err != nil || !say(": still here\n\n") {
				return nil
			}
		case <-pause:
			woken, pause = l.woken, nil
		case <-woken:
			changed, seq := s.streams.take(l)
			if concernsPeople(changed) {
				if o, err = s.operator(r, "events"); err != nil {
					return nil
				}
			}
			if !o.may.Whole() {
				for k := range changed.Kinds {
					changed.Kinds[k] = []string{} // they may be of machines of other groups
				}
			}
			b, err := json.Marshal(changed)
			if err != nil || !say("id: %d\nevent: changed\ndata: %s\n\n", seq, b) {
				return nil
			}
			woken, pause = nil, time.After(eventPause)
		}
	}
}
