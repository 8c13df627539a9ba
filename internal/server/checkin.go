// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// smallBody is what a body usually fits in; larger buffers are not kept.
const smallBody = 16 << 10

// bearer is the credential of a request.
func bearer(r *http.Request) string {
	scheme, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return credential
}

// machine finds the machine that a request comes from. It asks the store only
// about credentials that this server has not seen.
func (s *Server) machine(r *http.Request) (*member, [sha256.Size]byte, error) {
	credential := bearer(r)
	if credential == "" || len(credential) > 256 {
		return nil, [sha256.Size]byte{}, refuse("TS7603", "", "a machine's credential is expected")
	}
	hash := sha256.Sum256([]byte(credential))
	if m := s.fleet.byCredential(hash[:]); m != nil {
		return m, hash, nil
	}
	m, err := s.unknown(r, credential, hash[:])
	return m, hash, err
}

func (s *Server) unknown(r *http.Request, credential string, hash []byte) (*member, error) {
	kind, ok := api.CredentialKindOf(credential)
	if !ok || kind != api.MachineCredential {
		s.failures.failed(s.clientAddr(r), s.now())
		return nil, refuse("TS7603", "", "a machine's credential is expected")
	}
	addr := s.clientAddr(r)
	if s.failures.exhausted(addr, s.now()) {
		return nil, tooMany("too many credentials from here that nobody has")
	}
	row, err := s.store.MachineByCredential(r.Context(), hash)
	if err == nil {
		_, err = s.fleet.refresh(r.Context(), s.store, row.ID)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	m := s.fleet.byCredential(hash)
	if m == nil {
		s.failures.failed(addr, s.now())
		return nil, refuse("TS7623", "", "it was removed, or enrolled again with another credential")
	}
	return m, nil
}

func tooMany(why string) error {
	f := refuse("TS7608", "", why)
	f.retryAfter = failBurst
	return f
}

// readBody reads a bounded body into a buffer that comes from the pool and
// goes back by the function.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, func(), error) {
	b := s.buffers.Get().(*bytes.Buffer)
	b.Reset()
	release := func() {
		if b.Cap() <= smallBody {
			s.buffers.Put(b)
		}
	}
	if r.ContentLength > api.MaxBody {
		release()
		return nil, nil, tooLarge(api.MaxBody)
	}
	if _, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, api.MaxBody)); err != nil {
		release()
		return nil, nil, bodyError(err)
	}
	return b.Bytes(), release, nil
}

func tooLarge(limit int64) error {
	return refuse("TS7607", "body", "at most "+size(limit)+" are accepted")
}

// bodyError says why a body could not be read: it is too large, or the client
// is too slow or gone.
func bodyError(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	f := refuse("TS7601", "body", "it did not arrive whole, or not in time")
	f.body.Status = http.StatusRequestTimeout
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		f.cause = err
	}
	return f
}

// bodyBroke reports whether an error is of a body that did not come whole.
func bodyBroke(err error) bool {
	_, large := errors.AsType[*http.MaxBytesError](err)
	return large || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded)
}

// checkIn answers POST /v1/machine/check-in. It is a plain handler, and what a
// machine with nothing new to say costs is a hash, a look-up and a comparison:
// no SQL.
func (s *Server) checkIn(w http.ResponseWriter, r *http.Request) {
	m, hash, err := s.machine(r)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	body, release, err := s.readBody(w, r)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	var in api.CheckIn
	err = decodeBody(body, &in)
	release()
	if err == nil {
		err = checkCheckIn(&in)
	}
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	a, etag, err := s.takeIn(r.Context(), m, hash[:], &in, r.Header.Get("If-None-Match"))
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	w.Header().Set("ETag", etag)
	if a == nil {
		s.metrics.checkIns.same.Inc()
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.metrics.checkIns.answered.Inc()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // the connection is the client's
}

// takeIn takes in a check-in and returns the answer, or nil if it is the one
// with this ETag. What is new about the machine is in the store before it
// returns.
func (s *Server) takeIn(ctx context.Context, m *member, hash []byte, in *api.CheckIn, etag string) (*api.Assignment, string, error) {
	now := s.now()
	f := factsOf(*in)
	digest := f.digest()
	m.mu.Lock()
	twice := m.traces.heard(in.BootID, in.Run)
	changed := digest != m.facts || twice && !m.cloned
	m.mu.Unlock()
	if changed {
		if err := s.saveFacts(ctx, m, in, f, digest, twice, now); err != nil {
			return nil, "", err
		}
	} else {
		s.fleet.touch(m, hash, now)
		if len(f.Packages) > 0 || f.Stale != nil {
			m.mu.Lock()
			m.counts, m.stale = countsOf(f.Packages, m.counts), staleCountsOf(f)
			m.mu.Unlock()
		}
	}
	want, err := s.wantsModules(ctx, in)
	if err != nil {
		return nil, "", err
	}
	v, err := s.seen(ctx, m)
	if err != nil {
		return nil, "", err
	}
	tag := v.etag()
	if etag == tag && !want {
		return nil, tag, nil
	}
	a, err := s.assignment(ctx, v)
	if err != nil {
		return nil, "", err
	}
	if want {
		a.Want = append(a.Want, api.WantModules)
	}
	a.Time = now.UnixMilli()
	return a, tag, nil
}

// saveFacts writes down a check-in that says something new.
func (s *Server) saveFacts(ctx context.Context, m *member, in *api.CheckIn, f facts, d digest, twice bool, now time.Time) error {
	m.mu.Lock()
	boots := 0
	if m.boot != "" && m.boot != in.BootID && !in.Orderly && !twice {
		boots = 1
	}
	m.mu.Unlock()
	row := store.CheckInRow{
		ID: m.id, Seen: now.UnixMilli(), Cloned: twice, Boots: boots,
		Facts: store.Facts{
			Agent: in.Agent, Release: in.Kernel.Release, BuildID: in.Kernel.BuildID, Arch: in.Kernel.Arch,
			Patch: in.Patch.ID, PatchVersion: in.Patch.Version, PatchState: string(in.Patch.State), Able: in.Able,
			Booted: now.Add(-time.Duration(min(in.Uptime, maxUptime)) * time.Second).UnixMilli(), JSON: f.bytes(),
		},
	}
	if err := s.store.SaveCheckIns(ctx, []store.CheckInRow{row}); err != nil {
		return err
	}
	s.metrics.checkIns.saved.Inc()
	words := &s.fleet.words
	m.mu.Lock()
	m.facts = d
	m.buildID, m.patch, m.state = words.intern(row.BuildID), words.intern(row.Patch), api.State(words.intern(row.PatchState))
	m.version, m.able, m.held = int32(row.PatchVersion), row.Able, in.Hold
	m.policy = words.intern(in.Patch.Policy)
	m.release, m.modules = words.intern(row.Release), words.intern(moduleWords(in.Replacements))
	m.packages, m.counts = s.fleet.sets.intern(words, f), countsOf(f.Packages, m.counts)
	m.stale = staleCountsOf(f)
	m.boot, m.booted, m.orderly, m.boots = in.BootID, row.Booted, in.Orderly, m.boots+int32(boots)
	first := twice && !m.cloned
	m.cloned = m.cloned || twice
	m.seen = max(m.seen, row.Seen)
	m.mu.Unlock()
	if first {
		s.log.Warn("two machines use one identity", "machine", m.id)
		s.audit(ctx, "server", "machine.cloned", m.id, "two boots or two agents check in in turn: both are asked to enrol again")
	}
	if len(in.Modules) > 0 {
		return s.keepModules(ctx, in)
	}
	return nil
}

// maxUptime is what a duration can hold, and more than any machine has.
const maxUptime = 100 * 365 * 24 * 3600

// view is what an answer to a machine is made of.
func (s *Server) view(m *member) *view {
	v := &view{id: m.id, interval: s.interval.Load()}
	book := s.book.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	page := book.of(m.group)
	v.policy, v.ending, v.endings = page.word, page.ending, page.endings
	v.tier, v.group, v.buildID, v.recipient, v.hold = m.tier, m.group, m.buildID, m.recipient, m.hold
	v.packages = m.packages
	v.want = ofEveryone[:1:1] // somebody appends to it
	if m.cloned {
		v.want = ofEveryone
	}
	return v
}

// ofEveryone is what every machine is asked for, and behind it what a clone is.
var ofEveryone = []api.Wish{api.WantStale, api.WantReenroll}

// seen is view with what the machine may have now of the shelves of its tier.
func (s *Server) seen(ctx context.Context, m *member) (*view, error) {
	v := s.view(m)
	shelf, err := s.shelves.get(ctx, v.tier, v.buildID, v.policy)
	if err != nil {
		return nil, err
	}
	v.sees(shelf)
	c, err := s.shelves.catalogue(ctx, v.tier)
	if err != nil {
		return nil, err
	}
	v.catalogue = c.digest
	for _, p := range v.packages.each() {
		shelf, err := s.shelves.ofPackage(ctx, v.tier, p.id, v.policy)
		if err != nil {
			return nil, err
		}
		v.seesPackage(p.id, shelf)
	}
	return v, nil
}

// assignment is the whole answer.
func (s *Server) assignment(ctx context.Context, v *view) (*api.Assignment, error) {
	a := &api.Assignment{
		Machine: v.id, Tier: v.tier, Group: v.group, Policy: v.policy, Interval: v.interval, Sequence: v.sequence, Want: v.want,
		Ending: v.ending, Hold: v.hold, Packages: v.sequences, Catalogue: v.catalogue,
	}
	if len(v.ids) == 0 {
		return a, nil
	}
	row, err := s.store.Machine(ctx, v.id)
	if err != nil {
		return nil, err
	}
	a.Keys, err = s.publish.Keys(ctx, row.Recipient, v.ids)
	return a, err
}
