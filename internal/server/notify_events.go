// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/notify"
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
