// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/store"
)

// metrics are what Prometheus may ask for. Counters of the hot path are
// resolved once: looking labels up for each request costs more than counting.
type metrics struct {
	requests       *prometheus.HistogramVec
	byPattern      sync.Map // pattern + status → prometheus.Observer
	panics         prometheus.Counter
	checkIns       struct{ same, answered, saved prometheus.Counter }
	enrolled       struct{ done, refused prometheus.Counter }
	reports        *prometheus.CounterVec
	crashBlocks    prometheus.Counter
	waitersRefused prometheus.Counter
	authFailures   prometheus.Counter
	signInFailures prometheus.Counter
	flushed        prometheus.Counter
	flushSeconds   prometheus.Histogram
	chooseFailures prometheus.Counter
	attempts       *prometheus.CounterVec

	rolloutSteps    *prometheus.CounterVec
	rolloutFailures prometheus.Counter
	fleet           *fleetCollector
}

func newMetrics(s *Server, reg *prometheus.Registry) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "tsugi_" + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tsugi_http_request_seconds", Help: "Requests by route and status. Long polls are in it with the time that they waited.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"method", "route", "status"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tsugi_reports_total", Help: "Reports of machines by kind."}, []string{"kind"}),
		rolloutSteps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tsugi_rollout_steps_total", Help: "Steps of rollouts that this server took, by what they were.",
		}, []string{"step"}),
		rolloutFailures: counter("rollout_failures_total", "Times that a rollout could not be moved on, for a reason that was not there the time before."),
		panics:          counter("http_panics_total", "Handlers that panicked."),
		crashBlocks:     counter("crash_blocks_total", "Live patches blocked because a machine went down."),
		waitersRefused:  counter("waiters_refused_total", "Long polls refused because too many machines waited."),
		authFailures:    counter("auth_failures_total", "Credentials of operators that were refused."),
		signInFailures:  counter("sign_in_failures_total", "Passwords, codes, links and passkeys that were refused."),
		fleet:           &fleetCollector{server: s, due: make(chan struct{}, 1)},
		chooseFailures:  counter("choose_failures_total", "Times that what policies choose could not be brought up to date for all of them."),
		flushed:         counter("seen_written_total", "Times of last check-ins written down."),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tsugi_seen_write_seconds", Help: "Writing down the times of last check-ins.", Buckets: prometheus.ExponentialBuckets(.001, 4, 9),
		}),
	}
	m.attempts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tsugi_notification_attempts_total", Help: "Attempts to deliver a notification, by what became of it.",
	}, []string{"stage"})
	for _, stage := range []notify.Stage{notify.Waiting, notify.Delivered, notify.Dead} {
		m.attempts.WithLabelValues(string(stage))
	}
	reg.MustRegister(m.attempts)
	for _, k := range []api.ReportKind{api.ReportState, api.ReportCrash, api.ReportHealth, api.ReportAgent} {
		m.reports.WithLabelValues(string(k)) // zero, so that the first one is an increase
	}
	checkIns := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tsugi_check_ins_total", Help: "Check-ins by what they were answered with, and those that had to be stored.",
	}, []string{"outcome"})
	enrolled := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tsugi_enrollments_total", Help: "Enrolments by outcome."}, []string{"outcome"})
	m.checkIns.same, m.checkIns.answered, m.checkIns.saved = checkIns.WithLabelValues("unchanged"), checkIns.WithLabelValues("answered"), checkIns.WithLabelValues("stored")
	m.enrolled.done, m.enrolled.refused = enrolled.WithLabelValues("enrolled"), enrolled.WithLabelValues("refused")
	for _, w := range rolloutSteps() {
		m.rolloutSteps.WithLabelValues(string(w))
	}
	reg.MustRegister(m.rolloutSteps, m.requests, m.reports, m.flushSeconds, checkIns, enrolled, m.fleet)
	return m
}

// notified counts one attempt to deliver a notification.
func (m *metrics) notified(stage notify.Stage) { m.attempts.WithLabelValues(string(stage)).Inc() }

// request counts one request.
func (m *metrics) request(pattern string, status int, took time.Duration) {
	key := strconv.Itoa(status) + " " + pattern
	if o, ok := m.byPattern.Load(key); ok {
		o.(prometheus.Observer).Observe(took.Seconds())
		return
	}
	method, route, ok := strings.Cut(pattern, " ")
	if !ok {
		method, route = "", "none" // not what a client made up: it would be a label of its own
	}
	o := m.requests.WithLabelValues(method, route, strconv.Itoa(status))
	m.byPattern.Store(key, o)
	o.Observe(took.Seconds())
}

// metricsPage answers GET /metrics.
func (s *Server) metricsPage() http.Handler {
	return promhttp.HandlerFor(s.opts.Registry, promhttp.HandlerOpts{ErrorLog: nil, MaxRequestsInFlight: 4})
}

// gauger gives a gauge.
type gauger func(d *prometheus.Desc, v float64, labels ...string)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tsugi_"+name, help, labels, nil)
}

// Describe says nothing: the collector is unchecked, and what it gives depends
// on the tiers.
func (c *fleetCollector) Describe(chan<- *prometheus.Desc) {}

// Collect gives the gauges.
func (c *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s := c.server
	d := desc("machines", "Enrolled machines by protection.", "protection")
	n := c.counts(ctx)
	for p, n := range n.protections {
		gauge(d, float64(n), string(p))
	}
	gauge(desc("machines_stale", "Enrolled machines whose processes run files that their disk has no more, as a package was upgraded under them."), float64(n.stale))
	packages := map[[2]string]int{}
	for h, n := range n.packages {
		packages[[2]string{h.target, string(h.word)}] += n
	}
	d = desc("package_machines", "Enrolled machines with processes that map files of a package, by how they stand with it.", "target", "protection")
	for k, n := range packages {
		gauge(d, float64(n), k[0], k[1])
	}
	if n.tally != nil {
		d := desc("machines_open", "Enrolled machines with open CVEs, by what would end them and the highest severity of these.", "need", "severity")
		for k, n := range n.tally.machines {
			gauge(d, float64(n), k[0], k[1])
		}
	}
	if n.choices != nil {
		d := desc("policy_choices", "What policies choose for targets, by how far it has come.", "state")
		for _, state := range choiceStates {
			gauge(d, float64(n.choices.states[state]), string(state))
		}
		gauge(desc("policy_choices_unpromoted", "Published choices whose live patch is not in the last tier yet."), float64(n.choices.unpromoted))
		gauge(desc("exclusions_ending", "Exclusions in force that end within two weeks."), float64(n.choices.ending))
	}
	gauge(desc("choose_age_seconds", "Time since what policies choose was last brought up to date for all of them."), s.now().Sub(time.UnixMilli(s.chosen.Load())).Seconds())
	s.collectRollouts(gauge)
	gauge(desc("waiters", "Machines that wait for something new."), float64(s.waiters.number()))
	gauge(desc("feed_age_seconds", "Time since the change feed was last read."), s.now().Sub(time.UnixMilli(s.feedRead.Load())).Seconds())
	if counts, err := s.store.CountJobs(ctx); err == nil {
		d := desc("jobs", "Build jobs by state.", "state")
		for _, state := range []store.JobState{store.JobQueued, store.JobRunning, store.JobDone, store.JobFailed, store.JobCancelled} {
			gauge(d, float64(counts[state]), string(state))
		}
	}
	if counts, err := s.store.CountDeliveries(ctx); err == nil {
		d := desc("notifications", "Notifications on their way, and those of the last 30 days, by stage.", "stage")
		for _, stage := range []string{store.DeliveryWaiting, store.DeliveryDelivered, store.DeliveryDead} {
			gauge(d, float64(counts[stage]), stage)
		}
	}
	if roles, err := s.publish.Status(ctx); err == nil {
		d := desc("tuf_expiry_seconds", "Time until the metadata of a role expires.", "role")
		for _, r := range roles {
			gauge(d, r.Expires.Sub(s.now()).Seconds(), r.Name)
		}
	}
}
