// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/notify"
)

// labelValues are the values that labels can have, where these are few: what alerts
// and dashboards may name. A label that is not here can have any.
func labelValues() map[string][]string {
	text := func(all ...any) (out []string) {
		for _, v := range all {
			out = append(out, fmt.Sprint(v))
		}
		return out
	}
	needs := []string{}
	for _, n := range api.Needs() {
		needs = append(needs, string(n))
	}
	states := []string{}
	for _, s := range choiceStates {
		states = append(states, string(s))
	}
	return map[string][]string{
		"tsugi_machines.protection":               text(api.Protected, api.Outdated, api.Partly, api.Unprotected, api.NotCovered, api.Failing, api.Silent),
		"tsugi_package_machines.protection":       text(api.Protected, api.Outdated, api.Partly, api.Unprotected, api.NotCovered, api.Failing),
		"tsugi_machines_open.need":                needs,
		"tsugi_machines_open.severity":            {"exploited", "critical", "high", "medium", "low", "unknown"},
		"tsugi_policy_choices.state":              states,
		"tsugi_jobs.state":                        text(api.JobQueued, api.JobRunning, api.JobDone, api.JobFailed, api.JobCancelled),
		"tsugi_notifications.stage":               text(notify.Waiting, notify.Delivered, notify.Dead),
		"tsugi_notification_attempts_total.stage": text(notify.Waiting, notify.Delivered, notify.Dead),
		"tsugi_check_ins_total.outcome":           {"unchanged", "answered", "stored"},
		"tsugi_enrollments_total.outcome":         {"enrolled", "refused"},
		"tsugi_reports_total.kind":                text(api.ReportState, api.ReportCrash, api.ReportHealth, api.ReportAgent),
	}
}

// TestMetricsPageIsUpToDate keeps docs/metrics.md true, which in turn the tests
// of packaging/ hold dashboards and alerts against.
func TestMetricsPageIsUpToDate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	row := s.publishes(1, "", []livepatch.FixRef{fixOf(1)}, []livepatch.OpenFix{openFix(9, livepatch.OpenReboot)})
	h := s.enroll(s.token().Secret, "a")
	h.report.Patch = api.Patch{ID: row.ID, Name: row.Name, Version: 1, State: api.Healthy}
	p := s.publishPackage(openssl, 1, 2)
	h.report.Packages = []api.Package{with(openssl, p, api.Processes{Protected: 1})}
	h.checkIn(t)
	_, err := h.Report(t.Context(), []api.Report{{ID: "1", Kind: api.ReportAgent, Kernel: testKernel}})
	qt.Assert(t, qt.IsNil(err))

	s.recount()
	qt.Assert(t, qt.IsNil(s.rollOnce(t.Context())))
	families, err := s.opts.Registry.Gather()
	qt.Assert(t, qt.IsNil(err))
	known := labelValues()
	rows := map[string]string{}
	for _, f := range families {
		name := f.GetName()
		qt.Check(t, qt.Not(qt.Equals(f.GetHelp(), "")), qt.Commentf("%s", name))
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
				if values, ok := known[name+"."+l.GetName()]; ok {
					qt.Check(t, qt.SliceContains(values, l.GetValue()), qt.Commentf("%s", name))
				}
			}
		}
		var said []string
		for _, l := range slices.Sorted(maps.Keys(labels)) {
			key := name + "." + l
			if values, ok := known[key]; ok {
				l += " (" + strings.Join(values, ", ") + ")"
				delete(known, key)
			}
			said = append(said, l)
		}
		rows[name] = fmt.Sprintf("| %s | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(said, "; "), f.GetHelp())
	}
	for _, f := range families { // an alert on the first of its kind needs the zero before it
		if f.GetType().String() == "COUNTER" && strings.Contains(rows[f.GetName()], "(") && len(f.GetMetric()[0].GetLabel()) == 1 {
			qt.Check(t, qt.HasLen(f.GetMetric(), len(labelValues()[f.GetName()+"."+f.GetMetric()[0].GetLabel()[0].GetName()])), qt.Commentf("%s", f.GetName()))
		}
	}
	qt.Check(t, qt.HasLen(known, 0), qt.Commentf("no metric has these labels"))

	var b strings.Builder
	b.WriteString(`# Metrics

What ` + "`GET /metrics`" + ` of a server tells Prometheus, beside the go_… and process_… of its process. Behind a label stand the
values that it can have, where these are few. packaging/prometheus has rules to alert by, packaging/grafana a dashboard;
[server.md](server.md) says how to set them up.

Made from internal/server by ` + "`make docs`" + `.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
`)
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		b.WriteString(rows[name])
	}
	const path = "../../docs/metrics.md"
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(b.String()), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(b.String(), string(want)), qt.Commentf("docs/metrics.md is out of date: make docs"))
}
