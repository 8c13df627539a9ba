// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// newFix makes a fix that adds lines to files, each "PATH: LINE".
func newFix(t *testing.T, id string, cves []string, lines ...string) *series.Fix {
	t.Helper()
	var diff []byte
	for _, l := range lines {
		path, line, _ := strings.Cut(l, ": ")
		diff = append(diff, fix.Unified(path, []byte("a\nb\n"), []byte("a\n"+line+"\nb\n"))...)
	}
	f, err := fix.Parse(id+".diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return &series.Fix{Meta: series.Meta{ID: id, CVEs: cves}, Diff: f}
}

// kernelOf pretends to build: what it says of a set of fixes is looked up by
// their ids.
type kernelOf struct {
	t     *testing.T
	mu    sync.Mutex
	built []string
	say   func(ids string) (*builder.Report, error)
}

func (k *kernelOf) build(ctx context.Context, req builder.Request, _ progress.Reporter) (*builder.Report, error) {
	var ids []string
	for _, f := range req.Fixes {
		ids = append(ids, f.ID)
	}
	key := strings.Join(ids, "+")
	k.mu.Lock()
	k.built = append(k.built, key)
	k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	qt.Check(k.t, qt.IsTrue(req.Assess))
	return k.say(key)
}

// run surveys with the pretended kernel and returns what it built.
func (k *kernelOf) run(ctx context.Context, req Request) (*Report, []string, error) {
	kept, err := openVerdicts(req.Dir, req.Target)
	if err != nil {
		return nil, nil, err
	}
	k.built = nil
	req.Jobs = 1
	w := newWalk(req, kept, progress.Discard)
	w.build, w.ready = k.build, func(context.Context, []int) error { return nil }
	if err := w.run(ctx); err != nil {
		return nil, k.built, err
	}
	return w.report(), k.built, nil
}

func request(t *testing.T, fixes ...*series.Fix) Request {
	return Request{
		Target: &kernel.Target{Name: "debian:test", Release: "test", BuildID: "00", SourceVersion: "1-1"},
		Series: &series.Series{Name: "1-2", From: "1-1", To: "1-2", Fixes: fixes}, Dir: t.TempDir(), Engine: "first",
	}
}

func live(module string) *builder.Report {
	return &builder.Report{Verdict: builder.Live, Objects: []builder.Object{{Path: "a.o", Module: module, Diff: &objdiff.Result{}}}}
}

func refused(c code.Code, modules ...string) *builder.Report {
	r := &builder.Report{Verdict: builder.Reboot, Refusals: []builder.Refusal{{Problem: code.New(c, "f", "because"), Object: "a.o"}}}
	for _, m := range modules {
		r.Objects = append(r.Objects, builder.Object{Path: m + ".o", Module: strings.TrimPrefix(m, "vmlinux"), Diff: &objdiff.Result{}})
	}
	return r
}

func TestVerdictsAreKeptForTheSameEngine(t *testing.T) {
	req := request(t, newFix(t, "one", nil, "a.c: x"), newFix(t, "two", nil, "b.c: x"))
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "two" {
			return refused("TS4010", "ext4"), nil
		}
		return live(""), nil
	}}
	r, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(built, []string{"one", "two"}))
	qt.Assert(t, qt.Equals(r.Fixes[1].Outcome, Reboot))
	qt.Assert(t, qt.IsTrue(r.Fixes[1].Served))

	again, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(built, 0), qt.Commentf("what is kept is not built"))
	qt.Assert(t, qt.IsTrue(again.Fixes[0].Known))
	qt.Assert(t, qt.DeepEquals(again.Summary, r.Summary))

	// A better engine: everything is judged anew, and what changed is told.
	req.Engine = "second"
	k.say = func(string) (*builder.Report, error) { return live(""), nil }
	r, built, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(built, 2))
	qt.Assert(t, qt.Equals(r.Fixes[1].Before, Reboot))
	qt.Assert(t, qt.Equals(r.Summary.Changed, 1))

	facts, err := Known(req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(facts.Verdicts, 2))
	req.Engine = "third"
	facts, err = Known(req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(facts.Verdicts, 0), qt.Commentf("another engine's verdicts are no facts"))
}

func TestAnInterruptedSurveyGoesOn(t *testing.T) {
	var fixes []*series.Fix
	for i := range 6 {
		fixes = append(fixes, newFix(t, fmt.Sprint("fix", i), nil, fmt.Sprintf("f%d.c: x", i)))
	}
	req := request(t, fixes...)
	ctx, stop := context.WithCancel(t.Context())
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "fix3" {
			stop()
			return nil, ctx.Err()
		}
		return live(""), nil
	}}
	_, _, err := k.run(ctx, req)
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	req.Known = true
	known, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(built, 0))
	qt.Assert(t, qt.Equals(known.Summary.Fixes, Tally{Live: 3, Unknown: 3}))
	qt.Assert(t, qt.HasLen(known.Facts().Verdicts, 3))
	req.Known = false
	k.say = func(string) (*builder.Report, error) { return live(""), nil }
	r, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(built, []string{"fix3", "fix4", "fix5"}))
	qt.Assert(t, qt.Equals(r.Summary.Fixes.Live, 6))
}

func TestWhatTheCompilerMissesIsJoined(t *testing.T) {
	user := newFix(t, "user", []string{"CVE-2026-1000"}, "net/a.c: \tmore_room(skb);")
	helper := newFix(t, "helper", nil, "include/net/room.h: int more_room(struct sk_buff *skb);")
	other := newFix(t, "other", nil, "fs/b.c: \tless_room(more_room);")
	missing := func(string) error {
		return code.New("TS3101", "net/a.c", "net/a.c:2:2: error: implicit declaration of function 'more_room' [-Werror=implicit-function-declaration]")
	}
	req := request(t, user, other, helper)
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "user" {
			return nil, missing(ids)
		}
		return live(""), nil
	}}
	r, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(slices.Contains(built, "user+helper")), qt.Commentf("%v", built))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
	qt.Assert(t, qt.DeepEquals(r.Fixes[0].With, []Requirement{{"helper", "more_room"}}))
	qt.Assert(t, qt.DeepEquals(r.Facts().Verdicts["user"], selection.Fact{Verdict: selection.IsLive, With: []string{"helper"}}))
	qt.Assert(t, qt.HasLen(req.Series.Fix("user").Requires, 0), qt.Commentf("a guess is no requirement"))

	// The verdict holds as long as what it was joined with does.
	_, built, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(built, 0))
	req.Series.Fixes[2] = newFix(t, "helper", nil, "include/net/room.h: long more_room(struct sk_buff *skb);")
	_, built, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(slices.Contains(built, "user+helper") && slices.Contains(built, "helper")), qt.Commentf("%v", built))

	// Without the fix that helps there is no verdict, and that is told.
	req.Series = &series.Series{Fixes: []*series.Fix{user}}
	r, _, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Failed))
	qt.Assert(t, qt.Equals(r.Fixes[0].Reasons[0].Code, code.Code("TS3101")))
	// It is looked for again when the series is another one.
	req.Series = &series.Series{Fixes: []*series.Fix{user, helper}}
	r, _, err = k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
}

func TestUsersOfAChangedHeaderComeAlong(t *testing.T) {
	header := newFix(t, "header", nil, "include/linux/x.h: int f(int a, int b);")
	user := newFix(t, "user", nil, "fs/user.c: \tg(1, 2);")
	req := request(t, header, user)
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "header" {
			return nil, code.New("TS3101", "fs/user.c", "fs/user.c:7:2: error: too few arguments to function 'f'")
		}
		return live(""), nil
	}}
	r, _, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
	qt.Assert(t, qt.Equals(r.Fixes[0].With[0].ID, "user"))
}

func TestAChangedTypeIsFoundByWhatItMentions(t *testing.T) {
	user := newFix(t, "user", nil, "net/netfilter/nft_lookup.c: static int dump(struct sk_buff *skb, const struct nft_expr *e, bool reset);")
	near := newFix(t, "near", nil, "net/netfilter/nft_set.c: \tuse(skb, sk_buff, nft_expr);")
	header := newFix(t, "header", nil, "include/net/netfilter/nf_tables.h: \tint (*dump)(struct sk_buff *skb, const struct nft_expr *expr, bool reset);")
	other := newFix(t, "other", nil, "include/linux/skbuff.h: struct sk_buff *more(void);")
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "user" {
			return nil, code.New("TS3101", "net/netfilter/nft_lookup.c", "net/netfilter/nft_lookup.c:251:27: error: initialization of "+
				"'int (*)(struct sk_buff *, const struct nft_expr *)' from incompatible pointer type 'int (*)(struct sk_buff *, const struct nft_expr *, bool)'")
		}
		return live(""), nil
	}}
	r, _, err := k.run(t.Context(), request(t, user, near, other, header))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
	qt.Assert(t, qt.Equals(r.Fixes[0].With[0].ID, "header"))
}

func TestAllThatFailsIsMendedAtOnce(t *testing.T) {
	header := newFix(t, "header", nil, "include/net/x.h: int f(int a, int b);")
	one, two := newFix(t, "one", nil, "net/one.c: \tf(1, 2);"), newFix(t, "two", nil, "net/two.c: \tf(1, 2);")
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids != "header" {
			return live(""), nil
		}
		var failed []builder.Refusal
		for _, f := range []string{"net/one.c", "net/two.c"} {
			failed = append(failed, builder.Refusal{Problem: code.New("TS3101", f, f+":3:2: error: too few arguments to function 'f'"), Object: f})
		}
		return &builder.Report{Failed: failed}, nil
	}}
	r, built, err := k.run(t.Context(), request(t, header, one, two))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Live))
	qt.Assert(t, qt.IsTrue(slices.Contains(built, "header+one+two")), qt.Commentf("%v", built))

	// What nothing mends is told with all of its places.
	r, _, err = k.run(t.Context(), request(t, header))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Outcome, Failed))
	qt.Assert(t, qt.HasLen(r.Fixes[0].Reasons, 2))
}

func TestRequiredFixesAreTakenAlong(t *testing.T) {
	a, b, c := newFix(t, "a", nil, "a.c: x"), newFix(t, "b", nil, "b.c: x"), newFix(t, "c", nil, "c.c: x")
	c.Requires = []string{"b"}
	b.Requires = []string{"a", "gone"}
	req := request(t, a, b, c)
	k := &kernelOf{t: t, say: func(string) (*builder.Report, error) { return live(""), nil }}
	r, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(built, []string{"a", "a+b", "a+b+c"}), qt.Commentf("in the order of the series"))
	qt.Assert(t, qt.DeepEquals(r.Fixes[2].With, []Requirement{{ID: "b"}, {ID: "a"}}))
}

func TestAnEngineThatStopsIsAVerdict(t *testing.T) {
	req := request(t, newFix(t, "bad", nil, "a.c: x"), newFix(t, "good", nil, "b.c: x"))
	k := &kernelOf{t: t, say: func(ids string) (*builder.Report, error) {
		if ids == "bad" {
			panic("index out of range")
		}
		return nil, errors.New("an error without a code")
	}}
	r, _, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Fixes[0].Reasons[0].Code, code.Code("TS1402")))
	qt.Assert(t, qt.Equals(r.Fixes[1].Reasons[0].Code, code.Code("TS1403")))
	qt.Assert(t, qt.Equals(r.Summary.Fixes.Failed, 2))

	// What has no name may pass: it is tried again. A full disk ends the survey.
	_, built, err := k.run(t.Context(), req)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(built, []string{"good"}))
	k.say = func(string) (*builder.Report, error) { return nil, code.New("TS9103", "/", "") }
	_, _, err = k.run(t.Context(), req)
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS9103")))
}

func TestAnUpdateOfAnotherSourceIsRefused(t *testing.T) {
	req := request(t, newFix(t, "a", nil, "a.c: x"))
	req.Series.From = "0-9"
	_, err := Run(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS1401")))
}
