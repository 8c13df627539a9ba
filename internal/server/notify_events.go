// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// eventOf is what people are told of a decision, if they are of such ones. The
// audit log is what they are told from because a decision and its entry are
// one write: what happened is told, also when the server went down right
// after it, and what did not happen is not.
func eventOf(e store.AuditEntry) (notify.Event, bool) {
	out := notify.Event{ID: "audit " + e.ID, Time: time.UnixMilli(e.Time), Facts: []notify.Fact{{Name: "by", Value: e.Actor}}}
	about := func(kind notify.Kind, subject, path, title string) (notify.Event, bool) {
		out.Kind, out.Subject, out.Path, out.Title = kind, subject+"/"+e.Object, path, title
		return out, true
	}
	fact := func(name string) {
		if e.Detail != "" {
			out.Facts = append(out.Facts, notify.Fact{Name: name, Value: e.Detail})
		}
	}
	if strings.HasPrefix(e.Action, "rollout.") {
		return rolloutEvent(e, out)
	}
	patch := "/console/livepatches/" + e.Object
	switch e.Action {
	case "livepatch.publish":
		fact("where")
		return about(notify.PatchPublished, "livepatch", patch, "Live patch "+e.Object+" was published")
	case "livepatch.promote":
		// Each tier is news of its own.
		out.Kind, out.Subject, out.Path = notify.PatchPromoted, "livepatch/"+e.Object+"/"+e.Detail, patch
		out.Title = fmt.Sprintf("Live patch %s came to tier %s", e.Object, e.Detail)
		return out, true
	case "livepatch.block":
		fact("why")
		return about(notify.PatchBlocked, "livepatch", patch, "Live patch "+e.Object+" was blocked")
	case "livepatch.unblock":
		out.Ends = true
		return about(notify.PatchBlocked, "livepatch", patch, "Live patch "+e.Object+" is not blocked any more")
	case "user.lock":
		fact("why")
		return about(notify.PersonLocked, "user", "/console/users", e.Object+" was locked out")
	case "user.unlock":
		out.Ends = true
		return about(notify.PersonLocked, "user", "/console/users", e.Object+" can sign in again")
	}
	return notify.Event{}, false
}

// rolloutEvent is a step of a rollout: its detail is "PATCH in tier TIER: WHY".
func rolloutEvent(e store.AuditEntry, out notify.Event) (notify.Event, bool) {
	of, why, ok := strings.Cut(e.Detail, ": ")
	if ok && why != "" {
		out.Facts = append(out.Facts, notify.Fact{Name: "why", Value: why})
	}
	say := func(kind notify.Kind, what string) (notify.Event, bool) {
		out.Kind, out.Subject, out.Path, out.Title = kind, "rollout/"+e.Object, "/console/rollouts/"+e.Object, "The rollout of "+of+" "+what
		return out, true
	}
	switch strings.TrimPrefix(e.Action, "rollout.") {
	case string(rollout.Begin):
		return say(notify.RolloutStarted, "began")
	case string(rollout.Halt):
		return say(notify.RolloutHalted, "was halted")
	case string(rollout.Resume):
		out.Ends = true
		return say(notify.RolloutHalted, "goes on")
	case string(rollout.Abort):
		out.Ends = true
		return say(notify.RolloutHalted, "was ended; machines keep what they have")
	case string(rollout.Revert):
		return say(notify.RolloutReverted, "is taken back")
	case string(rollout.Finish):
		return say(notify.RolloutDone, "is through")
	case string(rollout.Close):
		out.Ends = true
		return say(notify.RolloutReverted, "is over")
	}
	return notify.Event{}, false
}

// crashEvent is a machine that went down with a live patch. A report that
// comes again is the same event.
func crashEvent(machine, hostname, group string, r *api.Report, now time.Time) notify.Event {
	e := notify.Event{
		ID: "crash " + machine + " " + r.ID, Kind: notify.MachineCrashed, Time: now, Subject: "machine/" + machine,
		Title: fmt.Sprintf("%s went down with live patch %s", hostname, r.Patch.ID), Path: "/console/machines/" + machine,
		Facts: []notify.Fact{{Name: "kernel", Value: r.Kernel.Release}},
	}
	if first, _, _ := strings.Cut(r.Detail, "\n"); first != "" {
		e.Facts = append(e.Facts, notify.Fact{Name: "machine says", Value: first})
	}
	if group != "" {
		e.Groups = []string{group}
	}
	return e
}
