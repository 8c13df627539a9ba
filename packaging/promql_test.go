// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metric is what docs/metrics.md says of one; a test of the server keeps that
// page true.
type metric struct {
	kind   string
	labels map[string][]string // values; nil: any
}

// exported are all metrics that a server exports.
func exported(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile("../docs/metrics.md")
	qt.Assert(t, qt.IsNil(err))
	out := map[string]metric{}
	label := regexp.MustCompile(`(\w+)(?: \(([^)]*)\))?`)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |\n"), " | ")
		if !strings.HasPrefix(line, "| tsugi_") || len(cells) != 4 {
			continue
		}
		m := metric{kind: cells[1], labels: map[string][]string{}}
		for l := range strings.SplitSeq(cells[2], "; ") {
			if found := label.FindStringSubmatch(l); found != nil {
				var values []string
				if found[2] != "" {
					values = strings.Split(found[2], ", ")
				}
				m.labels[found[1]] = values
			}
		}
		out[cells[0]] = m
	}
	qt.Assert(t, qt.IsTrue(len(out) > 15), qt.Commentf("%d metrics", len(out)))

	// What servercli registers beside them.
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := reg.Gather()
	qt.Assert(t, qt.IsNil(err))
	for _, f := range families {
		out[f.GetName()] = metric{kind: strings.ToLower(f.GetType().String())}
	}
	out["up"] = metric{kind: "gauge"}
	out["job:tsugi_machines:sum"] = metric{kind: "gauge"} // that a rule records
	return out
}

// What PromQL knows beside metrics, as far as we use it: a word that is not
// here is a metric.
var (
	aggregations = []string{"sum", "max", "min", "count", "topk"}
	functions    = []string{"rate", "increase", "histogram_quantile", "absent", "vector", "label_values"}
	operators    = []string{"and", "or", "unless", "bool", "offset"}
	grouping     = []string{"by", "without", "on", "ignoring"}
)

var token = regexp.MustCompile(`^(?:\s+|"(?:[^"\\]|\\.)*"|[a-zA-Z_:][a-zA-Z0-9_:]*|\[[^\]]*\]|[0-9.]+|=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])`)

// promql finds what is wrong with an expression: what it names that nobody
// exports, a counter that is not counted over a time, a gauge that is. It
// returns the labels that the result may have.
func promql(expr string, known map[string]metric) (labels []string, err error) {
	var words []string
	for rest := expr; rest != ""; {
		w := token.FindString(rest)
		if w == "" {
			return nil, fmt.Errorf("%.20q is no PromQL", rest)
		}
		if rest = rest[len(w):]; strings.TrimSpace(w) != "" {
			words = append(words, w)
		}
	}
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	result := map[string]bool{"job": true, "instance": true}
	metrics := map[string]bool{}
	grouped := []string{}
	called := []string{} // the functions around, by parenthesis
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "(":
			called = append(called, "")
			if i > 0 && slices.Contains(functions, words[i-1]) {
				called[len(called)-1] = words[i-1]
			}
		case w == ")":
			if len(called) == 0 {
				return nil, fmt.Errorf("a ) too many")
			}
			called = called[:len(called)-1]
		case slices.Contains(grouping, w):
			if at(i+1) != "(" {
				return nil, fmt.Errorf("%s without labels", w)
			}
			for i += 2; at(i) != ")"; i++ {
				if at(i) == "" {
					return nil, fmt.Errorf("%s without an end", w)
				}
				if words[i] != "," {
					grouped = append(grouped, words[i])
				}
			}
		case slices.Contains(operators, w):
		case slices.Contains(aggregations, w) || slices.Contains(functions, w):
			if next := at(i + 1); next != "(" && !slices.Contains(grouping, next) {
				return nil, fmt.Errorf("%s is not called", w)
			}
		case regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(w):
			m, ok := known[w]
			base := w
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if b, cut := strings.CutSuffix(w, suffix); cut && !ok && known[b].kind == "histogram" {
					m, base, ok = metric{kind: "counter", labels: maps.Clone(known[b].labels)}, b, true
					if suffix == "_bucket" {
						m.labels["le"] = nil
					}
				}
			}
			if !ok || m.kind == "histogram" {
				return nil, fmt.Errorf("nobody exports %s", w)
			}
			metrics[base] = true
			for l := range m.labels {
				result[l] = true
			}
			if at(i+1) == "{" {
				for i += 2; at(i) != "}"; i++ {
					if at(i) == "" {
						return nil, fmt.Errorf("%s: a { without an end", w)
					}
					if words[i] == "," {
						continue
					}
					if err := matcher(w, m, at(i), at(i+1), at(i+2)); err != nil {
						return nil, err
					}
					i += 2
				}
			}
			over := strings.HasPrefix(at(i+1), "[")
			in := ""
			if len(called) > 0 {
				in = called[len(called)-1]
			}
			counted := in == "rate" || in == "increase"
			if over != (m.kind == "counter") || over != counted {
				return nil, fmt.Errorf("%s is a %s, and is not used as one", w, m.kind)
			}
		}
	}
	if len(called) > 0 {
		return nil, fmt.Errorf("a ( without an end")
	}
	for _, l := range grouped {
		if !result[l] {
			return nil, fmt.Errorf("no metric of it has a label %s", l)
		}
	}
	if len(metrics) == 0 {
		return nil, fmt.Errorf("it asks for nothing")
	}
	return slices.Sorted(maps.Keys(result)), nil
}

// matcher checks one label="value" of a metric.
func matcher(name string, m metric, label, op, text string) error {
	values, ok := m.labels[label]
	if !ok && label != "job" && label != "instance" {
		return fmt.Errorf("%s has no label %s", name, label)
	}
	if !slices.Contains([]string{"=", "!=", "=~", "!~"}, op) || len(text) < 2 || text[0] != '"' {
		return fmt.Errorf("%s: %s %s %s", name, label, op, text)
	}
	text = text[1 : len(text)-1]
	if strings.HasSuffix(op, "~") {
		if _, err := regexp.Compile(text); err != nil {
			return fmt.Errorf("%s: %s: %w", name, label, err)
		}
	}
	for v := range strings.SplitSeq(text, "|") {
		if values != nil && !slices.Contains(values, v) {
			return fmt.Errorf("%s: %s is never %q", name, label, v)
		}
	}
	return nil
}

// TestTheCheckFindsWhatIsWrong: a check that finds nothing proves nothing.
func TestTheCheckFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	known := exported(t)
	for _, good := range []string{
		`tsugi_machines{protection="failing"} > 0`, `sum by (job) (rate(tsugi_check_ins_total{outcome=~"unchanged|answered"}[5m]))`,
		`histogram_quantile(0.95, sum by (le) (rate(tsugi_http_request_seconds_bucket{job=~"$job"}[$__rate_interval])))`,
	} {
		_, err := promql(good, known)
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s", good))
	}
	for bad, says := range map[string]string{
		`tsugi_machine{protection="failing"}`:                    "nobody exports tsugi_machine",
		`tsugi_machines{protected="failing"}`:                    "no label protected",
		`tsugi_machines{protection="broken"}`:                    "never \"broken\"",
		`tsugi_machines{protection=~"failing|broken"}`:           "never \"broken\"",
		`tsugi_machines{protection=failing}`:                     "protection = failing",
		`sum by (tier) (tsugi_machines)`:                         "no metric of it has a label tier",
		`rate(tsugi_machines[5m])`:                               "is a gauge",
		`tsugi_machines[5m]`:                                     "is a gauge",
		`tsugi_crash_blocks_total > 0`:                           "is a counter",
		`sum(tsugi_crash_blocks_total[5m])`:                      "is a counter",
		`tsugi_http_request_seconds > 1`:                         "nobody exports",
		`tsugi_waiters_count`:                                    "nobody exports",
		`sum by (le) (rate(tsugi_http_request_seconds_sum[5m]))`: "label le",
		`sum(tsugi_waiters`:                                      "without an end",
		`tsugi_waiters)`:                                         "too many",
		`avg(tsugi_waiters)`:                                     "nobody exports avg",
		`tsugi_waiters § 1`:                                      "no PromQL",
		`1 > 0`:                                                  "asks for nothing",
		`tsugi_http_request_seconds_count{status=~"("}`:          "missing closing",
	} {
		_, err := promql(bad, known)
		qt.Check(t, qt.ErrorMatches(err, ".*"+regexp.QuoteMeta(says)+".*"), qt.Commentf("%s", bad))
	}
}
