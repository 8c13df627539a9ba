// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// When something is worth a person's attention.
const (
	slowAnswer   = 200 * time.Millisecond
	staleChoices = 10 * time.Minute
	lowDisk      = 10 // percent that is free
	noDisk       = 3
	longQueue    = time.Hour
)

func (s *Server) systemOperations(o *operations) {
	answer(o, op{id: "get-system", method: "GET", path: "/v1/system", summary: "How the service itself stands: database, files, workers, signatures", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.SystemReport, error) { return s.system(ctx) })
}

// system looks at everything that the service needs. What can't be looked at is
// a check that fails, and no error: the page is wanted most when something is
// broken.
func (s *Server) system(ctx context.Context) (api.SystemReport, error) {
	now := s.now()
	r := api.SystemReport{
		At: now.UnixMilli(), Version: s.opts.Version, Up: since(now, s.started), URL: s.opts.URL, Memory: resident(),
		Fleet: s.fleet.size(), Waiters: s.waiters.number(), Workers: []api.WorkerInfo{}, Roles: []api.TrustRole{},
		FeedAge: since(now, time.UnixMilli(s.feedRead.Load())), Choices: since(now, time.UnixMilli(s.chosen.Load())),
	}
	c := &checks{report: &r}
	s.checkStore(ctx, c)
	s.checkBlobs(ctx, c)
	age := time.Duration(r.FeedAge) * time.Millisecond
	c.add("feed", grade(age, 5*time.Second, staleFeed), "last read "+age.Round(time.Millisecond).String()+" ago")
	age = time.Duration(r.Choices) * time.Millisecond
	c.add("choices", grade(age, staleChoices, 6*staleChoices), "policies were last followed "+age.Round(time.Second).String()+" ago")
	s.checkTrust(ctx, c, now)
	s.checkWorkers(ctx, c, now)
	return r, nil
}

type checks struct{ report *api.SystemReport }

func (c *checks) add(id string, level api.SystemLevel, detail string) {
	c.report.Checks = append(c.report.Checks, api.SystemCheck{ID: id, Level: level, Detail: detail})
}

func grade(d, warn, bad time.Duration) api.SystemLevel {
	switch {
	case d >= bad:
		return api.LevelBad
	case d >= warn:
		return api.LevelWarn
	}
	return api.LevelGood
}

func (s *Server) checkStore(ctx context.Context, c *checks) {
	begun := time.Now()
	err := s.store.Ping(ctx)
	took := time.Since(begun)
	st := &c.report.Store
	st.Engine, st.Answer = s.store.Engine(), took.Microseconds()
	if err == nil {
		st.Schema, err = s.store.Schema(ctx)
	}
	if err == nil {
		st.Size, st.Version, err = s.store.Size(ctx)
	}
	if err != nil {
		c.add("store", api.LevelBad, "the database does not answer: "+firstLine(err))
		return
	}
	c.add("store", grade(took, slowAnswer, 10*slowAnswer), "it answers in "+took.Round(10*time.Microsecond).String())
}

func (s *Server) checkBlobs(ctx context.Context, c *checks) {
	begun := time.Now()
	_, err := s.blobs.Stat(ctx, "tuf/metadata/timestamp.json")
	took := time.Since(begun)
	b := &c.report.Blobs
	b.Kind, b.Answer = "other", took.Microseconds()
	if d, ok := s.blobs.(blob.Described); ok {
		b.Kind, b.Where = d.Describe()
	}
	if err != nil {
		c.add("blobs", api.LevelBad, "the TUF metadata cannot be read: "+firstLine(err))
	} else {
		c.add("blobs", grade(took, slowAnswer, 10*slowAnswer), "they answer in "+took.Round(10*time.Microsecond).String())
	}
	d, ok := s.blobs.(blob.OnDisk)
	if !ok {
		return
	}
	free, total, err := d.Space()
	if err != nil || total == 0 {
		c.add("disk", api.LevelWarn, "its free space cannot be told")
		return
	}
	b.Free, b.Total = free, total
	percent, level := 100*free/total, api.LevelGood
	if percent < noDisk {
		level = api.LevelBad
	} else if percent < lowDisk {
		level = api.LevelWarn
	}
	c.add("disk", level, strconv.FormatInt(percent, 10)+" % are free")
}

func (s *Server) checkTrust(ctx context.Context, c *checks, now time.Time) {
	roles, err := s.publish.Status(ctx)
	if err != nil {
		c.add("trust", api.LevelBad, "the TUF repository cannot be read: "+firstLine(err))
		return
	}
	level, detail := api.LevelGood, "no signature ends soon"
	for _, r := range roles {
		c.report.Roles = append(c.report.Roles, roleOf(r))
		left := r.Expires.Sub(now)
		// The server signs timestamp, snapshot and the tiers itself; the others
		// need people, who need time.
		warn, bad := 2*time.Hour, time.Duration(0)
		if r.Name == "root" || r.Name == "targets" {
			warn, bad = windowNotice, 7*24*time.Hour
		}
		switch {
		case left <= bad:
			level, detail = api.LevelBad, r.Name+" ends "+r.Expires.UTC().Format(time.DateTime)
		case left <= warn && level == api.LevelGood:
			level, detail = api.LevelWarn, r.Name+" ends "+r.Expires.UTC().Format(time.DateTime)
		}
	}
	c.add("trust", level, detail)
}

func roleOf(r publish.RoleStatus) api.TrustRole {
	keys := r.Keys
	if keys == nil {
		keys = []string{}
	}
	return api.TrustRole{Name: r.Name, Version: r.Version, Expires: r.Expires.UnixMilli(), Threshold: r.Threshold, Keys: keys}
}

// checkWorkers lists who builds, and who could.
func (s *Server) checkWorkers(ctx context.Context, c *checks, now time.Time) {
	running, err := s.store.Jobs(ctx, store.JobFilter{State: store.JobRunning, Limit: 100})
	queued, other := s.store.Jobs(ctx, store.JobFilter{State: store.JobQueued, Limit: 1000})
	operators, third := s.store.Operators(ctx)
	if err := either2(err, either2(other, third)); err != nil {
		c.add("workers", api.LevelBad, "the queue cannot be read: "+firstLine(err))
		return
	}
	r := c.report
	for _, j := range running {
		r.Workers = append(r.Workers, api.WorkerInfo{Name: j.Worker, Job: j.ID, Stage: j.Stage, Since: j.Started, Until: j.LeasedUntil})
	}
	for _, o := range operators {
		if o.Kind != store.OperatorWorker || o.Revoked != 0 {
			continue
		}
		busy := slices.ContainsFunc(running, func(j store.Job) bool { return strings.HasPrefix(j.Worker, o.Name+"/") })
		if !busy {
			r.Workers = append(r.Workers, api.WorkerInfo{Name: o.Name, Seen: o.LastUsed})
		}
	}
	r.Queued = len(queued)
	for _, j := range queued {
		if r.Oldest == 0 || j.Created < r.Oldest {
			r.Oldest = j.Created
		}
	}
	waits := time.Duration(0)
	if r.Oldest > 0 {
		waits = now.Sub(time.UnixMilli(r.Oldest))
	}
	c.add("workers", grade(waits, longQueue, 24*longQueue), fmt.Sprintf("builds under way: %d, waiting: %d", len(running), r.Queued))
}

// resident is the memory that this process has, where the system tells.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64) // 0 where it is not told
	return pages * int64(os.Getpagesize())
}

// firstLine keeps what else an error says to the log.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// size is how many machines it has.
func (f *fleet) size() int {
	n := 0
	for i := range f.ids {
		s := &f.ids[i]
		s.mu.RLock()
		n += len(s.members)
		s.mu.RUnlock()
	}
	return n
}
