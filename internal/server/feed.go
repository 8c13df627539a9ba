// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// feedInterval is how often the change feed is read: what another server
// wrote is known here, and to the machines that wait here, within it.
const feedInterval = 500 * time.Millisecond

// settingInterval is the number of seconds between two check-ins.
const settingInterval = "machines.interval"

// kick reads the change feed at once, because this server has just written.
func (s *Server) kick() {
	poke(s.kicked)
	s.teller.kick()
}

// settle brings what this server has just written into its memory, so that who
// is answered after that, and asks again, is not told what was before.
func (s *Server) settle(ctx context.Context) {
	if err := s.catchUp(ctx); err != nil {
		poke(s.kicked) // who follows the feed tries again, and says why it fails
	}
	s.teller.kick()
}

// follow reads the change feed until the context ends.
func (s *Server) follow(ctx context.Context) error {
	ticker := time.NewTicker(feedInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.kicked:
		}
		err := s.catchUp(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			s.log.Error("change feed cannot be read", "err", err)
		case err == nil && failing:
			s.log.Info("change feed can be read again")
		}
		failing = err != nil
	}
}

// catchUp takes over what changed since the last time.
func (s *Server) catchUp(ctx context.Context) error {
	s.feedMu.Lock()
	defer s.feedMu.Unlock()
	changes, err := s.store.Changes(ctx, s.feedSeq)
	if err != nil {
		return err
	}
	s.feedRead.Store(s.now().UnixMilli())
	if len(changes) == 0 {
		return nil
	}
	all, jobs, signed, policies := false, false, false, false
	var moved []string
	for _, c := range changes {
		switch c.Kind {
		case store.KindMachine:
			m, err := s.fleet.refresh(ctx, s.store, c.ID)
			if err != nil {
				return err
			}
			if m != nil {
				moved = append(moved, c.ID)
			}
		case store.KindTUF:
			all, signed = true, true
		case store.KindLivePatch:
			all, policies = true, true
		case store.KindTier:
			all = true
		case store.KindPolicy:
			all, policies = true, true
		case store.KindSetting:
			if err := s.readSettings(ctx); err != nil {
				return err
			}
			all = true
		case store.KindJob:
			jobs = true
		case store.KindRollout:
			if err := s.refreshRollout(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	if policies {
		if err := s.readBook(ctx); err != nil {
			return err
		}
		s.chooseSoon()
	}
	if signed {
		if err := s.served(ctx); err != nil {
			return err
		}
	}
	// Only now: had something failed, all of it is read again.
	s.feedSeq = changes[len(changes)-1].Seq
	s.streams.tell(changes)
	for _, id := range moved {
		s.waiters.wake(id)
	}
	if jobs {
		s.jobs.Wake()
	}
	if all {
		s.forget()
		s.wakeSoon()
	}
	return nil
}

// served waits until the metadata that was signed last can be fetched: it is
// in the store a moment before it is in the files, and a machine that is woken
// in between would find nothing new. If whoever signed was killed in that
// moment, Refresh writes the files, and this is not waited for.
func (s *Server) served(ctx context.Context) error {
	files, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return err
	}
	want := int64(0)
	for _, f := range files {
		if f.Role == "timestamp" {
			want = f.Version
		}
	}
	for range servedTries {
		have, err := s.servedTimestamp(ctx)
		if err != nil {
			return err
		}
		if have >= want {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(servedPause):
		}
	}
	s.log.Warn("signed metadata is not among the files yet", "version", want)
	return nil
}

// How often and how long served waits: 2 s in all.
const (
	servedTries = 40
	servedPause = 50 * time.Millisecond
)

// servedTimestamp is the version of the timestamp that machines are given; 0:
// none yet.
func (s *Server) servedTimestamp(ctx context.Context) (int64, error) {
	f, info, err := s.blobs.Open(ctx, "tuf/metadata/timestamp.json")
	if errors.Is(err, blob.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	var t struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	if err := json.NewDecoder(io.LimitReader(f, min(info.Size, 1<<20))).Decode(&t); err != nil {
		return 0, fmt.Errorf("timestamp.json: %w", err)
	}
	return t.Signed.Version, nil
}

// wakeSoon has every waiter woken. It takes a while, and the feed is read on.
func (s *Server) wakeSoon() { poke(s.waking) }

// keepWaking wakes waiters until the context ends.
func (s *Server) keepWaking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.waking:
			s.wakeAll(ctx)
		}
	}
}

// wakeAll wakes every waiter, not all at once.
func (s *Server) wakeAll(ctx context.Context) {
	list := s.waiters.all()
	for i, ch := range list {
		poke(ch)
		if i%wakeBatch == wakeBatch-1 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wakePause):
			}
		}
	}
}

// readSettings takes over the settings that this package lives by.
func (s *Server) readSettings(ctx context.Context) error {
	set, err := readRolloutSettings(ctx, s.store.Reader)
	if err != nil {
		return err
	}
	s.rolling.settings.Store(set)
	v, err := s.store.Setting(ctx, settingInterval)
	if errors.Is(err, store.ErrNotFound) {
		s.interval.Store(int64(s.opts.Interval / time.Second))
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("setting %s: %q is no number of seconds", settingInterval, v)
	}
	s.interval.Store(n)
	return nil
}
