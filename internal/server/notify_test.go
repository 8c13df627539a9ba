// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/courier"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/store"
)

// receiver takes webhooks, checks their signatures, and keeps what they say.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	secret notify.Secret
	seen   notify.Seen
	fail   int // so many are answered with 503 first
	got    []struct {
		Type string
		Data struct {
			Kind, Severity, Subject, Title, Link string
			Ends                                 bool
		}
	}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fail > 0 {
			r.fail--
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		b, err := io.ReadAll(req.Body)
		qt.Check(t, qt.IsNil(err))
		if err := notify.Verify(r.secret, req.Header.Get, b, time.Now(), &r.seen); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		r.got = append(r.got, struct {
			Type string
			Data struct {
				Kind, Severity, Subject, Title, Link string
				Ends                                 bool
			}
		}{})
		qt.Check(t, qt.IsNil(json.Unmarshal(b, &r.got[len(r.got)-1])))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) titles() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range r.got {
		out = append(out, m.Data.Title)
	}
	return out
}

// tells is the option of a server that sends webhooks to this host.
func tells(t *testing.T) func(*Options) {
	hooks := courier.NewWebhooks(courier.WebhookOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Plain: true, Agent: "tsugi"})
	t.Cleanup(hooks.Close)
	return func(o *Options) {
		o.Notify = NotifyOptions{Webhooks: hooks, Plain: true, Key: []byte(strings.Repeat("k", 32))}
	}
}

func (r *receiver) channel(s *site, settings api.ChannelSettings) *api.ChannelMade {
	settings.Type, settings.To = "webhook", []string{r.URL + "/hook?secret=path"}
	made, err := s.admin.CreateChannel(s.t.Context(), api.NewChannel{ChannelSettings: settings})
	qt.Assert(s.t, qt.IsNil(err))
	r.mu.Lock()
	r.secret = notify.Secret(made.Secret)
	r.mu.Unlock()
	return made
}

func TestAChannelIsSetUpTriedAndChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	r := newReceiver(t)
	made := r.channel(s, api.ChannelSettings{Name: "on call", Kinds: []string{"rollout.*"}})
	qt.Check(t, qt.IsTrue(strings.HasPrefix(made.Secret, "whsec_")))
	row, err := s.db.Channel(t.Context(), made.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.StringContains(string(row.Secrets)+row.Body, made.Secret)))

	tried, err := s.admin.TestChannel(t.Context(), made.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(tried.Items, 1))
	qt.Check(t, qt.Equals(tried.Items[0].Stage, "delivered"))
	qt.Check(t, qt.Equals(tried.Items[0].To, r.URL), qt.Commentf("the path may be a secret"))
	qt.Check(t, qt.DeepEquals(r.titles(), []string{"This is a test of channel on call"}))

	again, err := s.admin.RotateChannelSecret(t.Context(), made.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again.Secrets, 2))
	_, err = s.admin.TestChannel(t.Context(), made.ID) // with the old secret at the receiver
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(r.titles(), 2))
	retired, err := s.admin.RetireChannelSecret(t.Context(), made.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(retired.Secrets, 1))
	tried, err = s.admin.TestChannel(t.Context(), made.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tried.Items[0].Stage, "dead"), qt.Commentf("the receiver knows only the old one"))
	qt.Assert(t, qt.IsNotNil(tried.Items[0].Problem))
	qt.Check(t, qt.Equals(tried.Items[0].Problem.Code, "TS8311"))
	r.mu.Lock()
	r.secret = notify.Secret(again.Secret)
	r.mu.Unlock()
	_, err = s.admin.RetryDelivery(t.Context(), tried.Items[0].ID)
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "the retried one arrives", func() bool { return len(r.titles()) == 3 })

	changed := made.ChannelSettings
	changed.Name, changed.Paused = "nobody", true
	now, err := s.admin.SetChannel(t.Context(), made.ID, changed)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(now.Paused))
	qt.Check(t, qt.Equals(now.Secrets, 1))
	qt.Assert(t, qt.IsNotNil(now.Last))
	list, err := s.admin.Deliveries(t.Context(), client.DeliveryFilter{Channel: made.ID, Limit: 2})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list.Items, 2))
	rest, err := s.admin.Deliveries(t.Context(), client.DeliveryFilter{Channel: made.ID, Limit: 2, After: list.Next})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(rest.Items, 1))

	qt.Assert(t, qt.IsNil(s.admin.DeleteChannel(t.Context(), made.ID)))
	_, err = s.admin.Channel(t.Context(), made.ID)
	qt.Check(t, qt.Equals(code.Of(err), "TS7605"))
}

func TestChannelsThatCantBe(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	_ = newReceiver(t).channel(s, api.ChannelSettings{Name: "there"})
	web := func(change func(*api.NewChannel)) api.NewChannel {
		n := api.NewChannel{ChannelSettings: api.ChannelSettings{Name: "n", Type: "webhook", To: []string{"https://example.com/x"}}}
		change(&n)
		return n
	}
	for name, c := range map[string]struct {
		n    api.NewChannel
		code string
	}{
		"a name that is there":          {web(func(n *api.NewChannel) { n.Name = "there" }), "TS7611"},
		"a URL with a password":         {web(func(n *api.NewChannel) { n.To = []string{"https://a:b@example.com/"} }), "TS8312"},
		"no URL":                        {web(func(n *api.NewChannel) { n.To = []string{"javascript:alert(1)"} }), "TS8312"},
		"a kind that nobody has":        {web(func(n *api.NewChannel) { n.Kinds = []string{"weather.rain"} }), "TS8312"},
		"a time zone that is a file":    {web(func(n *api.NewChannel) { n.Digest = &api.ChannelDigest{Every: "day", Zone: "../../etc/passwd"} }), "TS8312"},
		"a secret that is none":         {web(func(n *api.NewChannel) { n.Secret = "secret" }), "TS8312"},
		"e-mail where none is sent":     {web(func(n *api.NewChannel) { n.Type, n.To = "email", []string{"a@example.com"} }), "TS8312"},
		"a type that there is not":      {web(func(n *api.NewChannel) { n.Type = "pigeon" }), "TS7601"},
		"a header in a name":            {web(func(n *api.NewChannel) { n.Name = "a\r\nBcc: b@example.com" }), "TS8312"},
		"more addresses than there are": {web(func(n *api.NewChannel) { n.To = make([]string, 21) }), "TS7601"},
	} {
		_, err := s.admin.CreateChannel(t.Context(), c.n)
		qt.Check(t, qt.Equals(string(code.Of(err)), c.code), qt.Commentf("%s: %v", name, err))
	}
}

func TestWhatHappensIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	r := newReceiver(t)
	r.channel(s, api.ChannelSettings{Name: "all", Kinds: []string{"livepatch.*", "machine.*"}})
	eventually(t, "the audit log is followed", func() bool { return s.teller.started.Load() })
	r.mu.Lock()
	r.fail = 1 // what can't be delivered at once is delivered later
	r.mu.Unlock()
	p := s.publishVersion(1)
	eventually(t, "the publication waits", func() bool {
		n, err := s.db.CountDeliveries(t.Context())
		return err == nil && n[store.DeliveryWaiting] == 1
	})
	s.shift.Add(int64(10 * time.Second))
	s.teller.courier.Kick()
	eventually(t, "the publication is told", func() bool { return len(r.titles()) == 1 })

	h := s.enroll(s.token().Secret, "db-1")
	h.checkIn(t)
	for range 2 { // the second is a report that comes again
		_, err := h.Report(t.Context(), []api.Report{{ID: "1", Kind: api.ReportCrash, Kernel: testKernel, Patch: api.Patch{ID: p.ID, Version: 1}}})
		qt.Assert(t, qt.IsNil(err))
	}
	eventually(t, "crash and block are told", func() bool { return len(r.titles()) == 3 })
	_, err := s.admin.Unblock(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "the end is told", func() bool { return len(r.titles()) == 4 })
	r.mu.Lock()
	defer r.mu.Unlock()
	qt.Check(t, qt.IsTrue(r.got[3].Data.Ends))
	for _, m := range r.got {
		qt.Check(t, qt.IsTrue(strings.HasPrefix(m.Data.Link, s.web.URL+"/console/")), qt.Commentf("%s", m.Data.Link))
	}
}

// TestAChannelThatCantBeReadKeepsNoOtherFromItsMessages: nor does a message.
func TestAChannelThatCantBeReadKeepsNoOtherFromItsMessages(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	r := newReceiver(t)
	broken, good := r.channel(s, api.ChannelSettings{Name: "broken"}), r.channel(s, api.ChannelSettings{Name: "good"})
	qt.Assert(t, qt.IsNil(s.db.Update(t.Context(), func(tx *store.Tx) error {
		row, err := tx.Channel(t.Context(), broken.ID)
		if err != nil {
			return err
		}
		row.Body = "{"
		if err := tx.ChangeChannel(t.Context(), row); err != nil {
			return err
		}
		for i, of := range []string{broken.ID, good.ID, good.ID} {
			text := `{"kind":"test","text":"t"}`
			if i == 1 {
				text = "["
			}
			now := s.clock().UnixMilli() + int64(i)
			if _, err := tx.AddDelivery(t.Context(), store.Delivery{
				ID: fmt.Sprint("d", i), Channel: of, To: r.URL, Subject: "s", Message: text, Made: now, Next: now,
			}); err != nil {
				return err
			}
		}
		return nil
	})))
	s.teller.courier.Kick()
	eventually(t, "the third is delivered", func() bool {
		d, err := s.db.Delivery(t.Context(), "d2")
		return err == nil && d.Attempt > 0
	})
}

func TestTwoServersTellOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	r := newReceiver(t)
	r.channel(s, api.ChannelSettings{Name: "all"})
	eventually(t, "the audit log is followed", func() bool { return s.teller.started.Load() })
	first := s.Server
	s.start(tells(t))
	second := s.Server
	s.publishVersion(1)
	facts := func(context.Context) notify.Facts {
		return notify.Facts{Troubles: []notify.TroubleFacts{{Subject: "x", Title: "trouble"}}}
	}
	var wg sync.WaitGroup
	for _, srv := range []*Server{first, second} {
		wg.Go(func() { qt.Check(t, qt.IsNil(srv.teller.readAudit(t.Context()))) })
		wg.Go(func() { qt.Check(t, qt.IsNil(srv.teller.watch(t.Context(), facts))) })
	}
	wg.Wait()
	eventually(t, "both are told", func() bool { return len(r.titles()) >= 2 })
	n, err := s.db.CountDeliveries(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(n[store.DeliveryDelivered]+n[store.DeliveryWaiting], 2))
	qt.Check(t, qt.HasLen(r.titles(), 2))
}

func TestAServerSeesHowThingsStand(t *testing.T) {
	t.Parallel()
	s := newSite(t, tells(t))
	p := s.publishVersion(1)
	h := s.enroll(s.token().Secret, "db-1")
	h.report.Patch = api.Patch{ID: p.ID, Version: 1, State: api.Quarantined}
	h.checkIn(t)
	f := s.notifyFacts(t.Context())
	qt.Check(t, qt.HasLen(f.Unknown, 0))
	qt.Check(t, qt.HasLen(f.Troubles, 0))
	qt.Assert(t, qt.HasLen(f.Groups, 1))
	qt.Check(t, qt.Equals(f.Groups[0].Failing, 1))
	qt.Check(t, qt.Equals(len(f.Roles), 8))
	for _, r := range f.Roles {
		qt.Check(t, qt.IsTrue(r.Life > 0), qt.Commentf("%s", r.Name))
	}
	s.shift.Add(int64(24 * time.Hour))
	f = s.notifyFacts(t.Context())
	qt.Check(t, qt.Equals(f.Groups[0].Silent, 1))
}

func TestWhatARolloutDecidesIsTold(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]notify.Kind{
		"rollout.create": "", "rollout.open": "", "rollout.begin": notify.RolloutStarted, "rollout.halt": notify.RolloutHalted, "rollout.resume": notify.RolloutHalted,
		"rollout.abort": notify.RolloutHalted, "rollout.revert": notify.RolloutReverted, "rollout.close": notify.RolloutReverted, "rollout.finish": notify.RolloutDone,
		"policy.choose": "",
	} {
		e, ok := eventOf(store.AuditEntry{ID: "1", Actor: "rollout", Action: action, Object: "r", Detail: "debian-6.1-v2 in tier stable: wave 2: 3 of 40 went down"})
		qt.Check(t, qt.Equals(e.Kind, want), qt.Commentf("%s", action))
		if ok {
			qt.Check(t, qt.Equals(e.Path, "/console/rollouts/r"))
			qt.Check(t, qt.IsTrue(strings.HasPrefix(e.Title, "The rollout of debian-6.1-v2 in tier stable ")), qt.Commentf("%s", e.Title))
			qt.Check(t, qt.Equals(e.Facts[1].Value, "wave 2: 3 of 40 went down"))
			qt.Check(t, qt.Equals(e.Ends, action == "rollout.resume" || action == "rollout.abort" || action == "rollout.close"))
		}
	}
}
