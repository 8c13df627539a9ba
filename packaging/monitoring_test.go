// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/go-quicktest/qt"
	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/pkgfile/debtest"
)

// rule is one of packaging/prometheus, strictly: Prometheus refuses a key that
// it does not know too.
type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("prometheus/tsugi.rules.yml")
	qt.Assert(t, qt.IsNil(err))
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	qt.Assert(t, qt.IsNil(d.Decode(&file)))
	known := exported(t)
	tests, err := os.ReadFile("prometheus/tsugi.rules.test.yml")
	qt.Assert(t, qt.IsNil(err))
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			name := r.Alert + r.Record
			labels, err := promql(r.Expr, known)
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s: %s", name, r.Expr))
			qt.Check(t, qt.IsTrue(name != "" && !seen[name] && (r.Alert == "") != (r.Record == "")), qt.Commentf("%s", name))
			seen[name] = true
			qt.Check(t, qt.StringContains(string(tests), name), qt.Commentf("no test of the rules knows it"))
			if r.Record != "" {
				qt.Check(t, qt.IsTrue(known[r.Record].kind != ""), qt.Commentf("%s", r.Record))
				continue
			}
			qt.Check(t, qt.Matches(r.Alert, `Tsugi[A-Z]\w+`))
			qt.Check(t, qt.IsTrue(slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) && len(r.Labels) == 1), qt.Commentf("%s", name))
			qt.Check(t, qt.Matches(r.For, `|\d+[smhd]`))
			qt.Check(t, qt.IsTrue(len(r.Annotations) == 2 && !strings.HasSuffix(r.Annotations["summary"], ".") && strings.HasSuffix(r.Annotations["description"], ".")), qt.Commentf("%s", name))
			for _, text := range r.Annotations {
				annotation(t, name, text, labels)
			}
		}
	}
	qt.Check(t, qt.IsTrue(len(seen) > 15))
}

// annotation runs a text as Prometheus would, with the labels that there are.
func annotation(t *testing.T, name, text string, labels []string) {
	t.Helper()
	human := func(any) string { return "1" }
	tm, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"humanize": human, "humanizeDuration": human, "humanizePercentage": human}).
		Parse("{{$labels := .Labels}}{{$value := .Value}}" + text)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", name))
	values := map[string]string{}
	for _, l := range labels {
		values[l] = "x"
	}
	var b strings.Builder
	qt.Check(t, qt.IsNil(tm.Execute(&b, map[string]any{"Labels": values, "Value": 1.0})), qt.Commentf("%s", name))
	for _, m := range regexp.MustCompile(`tsugi(?:ctl|-server)? [a-z]+(?: [a-z]+)?`).FindAllString(b.String(), -1) {
		qt.Check(t, qt.IsTrue(command(t, m)), qt.Commentf("%s: no command %s", name, m))
	}
}

// command tells whether a program has a command, by its reference.
func command(t *testing.T, words string) bool {
	t.Helper()
	program, rest, _ := strings.Cut(words, " ")
	page, err := os.ReadFile("../docs/" + program + ".md")
	qt.Assert(t, qt.IsNil(err))
	first, _, _ := strings.Cut(rest, " ")
	return strings.Contains(string(page), program+" "+rest) || strings.Contains(string(page), "## "+program+" "+first+"\n")
}

// promtool is the one in PATH, or that of Debian's package, which make test
// fetches and nobody needs to install: it would start a server.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	// Another process writes it: a program that this one has open for writing, as
	// a command does that starts just then, can't be run.
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c",
		`dpkg-deb --fsys-tarfile "$1" | tar -xC "$2" ./usr/bin/promtool`, "bash", debtest.Find(t, "prometheus"), dir).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	return filepath.Join(dir, "usr/bin/promtool")
}

// TestAlertRulesInPrometheus lets Prometheus itself read and try the rules.
func TestAlertRulesInPrometheus(t *testing.T) {
	t.Parallel()
	program := promtool(t)
	for _, args := range [][]string{{"check", "rules", "tsugi.rules.yml"}, {"test", "rules", "tsugi.rules.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = "prometheus"
		out, err := cmd.CombinedOutput()
		qt.Check(t, qt.IsNil(err), qt.Commentf("%s", out))
	}
}

// dashboard is as much of Grafana's model as can be wrong without a Grafana.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Refresh       string
	Annotations   struct{ List []struct{ Expr string } }
	Templating    struct {
		List []struct {
			Name, Type, Definition string
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ H, W, X, Y int }
	Targets                  []struct {
		Expr, LegendFormat, RefID string
		Datasource                struct{ Type, UID string }
	}
	FieldConfig struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Steps []struct{ Value *float64 }
			}
		}
		Overrides []struct {
			Matcher struct{ ID, Options string }
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("grafana/tsugi.json")
	qt.Assert(t, qt.IsNil(err))
	var d dashboard
	qt.Assert(t, qt.IsNil(json.Unmarshal(text, &d)))
	qt.Check(t, qt.IsTrue(d.UID == "tsugi" && d.Title == "Tsugi" && d.SchemaVersion >= 36))
	_, err = time.ParseDuration(d.Refresh)
	qt.Check(t, qt.IsNil(err))
	known := exported(t)
	for i := range known { // one server is chosen by its job
		if m := known[i]; m.labels == nil {
			m.labels = map[string][]string{}
			known[i] = m
		}
	}
	variables := []string{}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if m := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition); m != nil {
			qt.Check(t, qt.IsTrue(known[m[1]].kind != ""), qt.Commentf("%s", v.Definition))
		} else {
			qt.Check(t, qt.Equals(v.Type, "datasource"))
		}
	}
	for _, m := range regexp.MustCompile(`\$\{?([A-Za-z_]+)`).FindAllStringSubmatch(string(text), -1) {
		qt.Check(t, qt.IsTrue(slices.Contains(append(variables, "__rate_interval"), m[1])), qt.Commentf("no variable %s", m[1]))
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			_, err := promql(a.Expr, known)
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", a.Expr))
		}
	}
	ids := map[int]bool{}
	used := map[string]bool{}
	var taken [200][24]int
	for _, p := range d.Panels {
		qt.Check(t, qt.IsTrue(p.ID > 0 && !ids[p.ID] && p.Title != ""), qt.Commentf("%s", p.Title))
		ids[p.ID] = true
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				if x >= 24 || taken[y][x] != 0 {
					t.Fatalf("%s lies outside, or over panel %d", p.Title, taken[y][min(x, 23)])
				}
				taken[y][x] = p.ID
			}
		}
		if p.Type == "row" {
			continue
		}
		qt.Check(t, qt.IsTrue(p.Type == "stat" || p.Type == "timeseries"), qt.Commentf("%s", p.Title))
		qt.Check(t, qt.IsTrue(p.Datasource.UID == "${datasource}" && p.Description != "" && p.FieldConfig.Defaults.Unit != "" && len(p.Targets) > 0), qt.Commentf("%s", p.Title))
		last := -1e308
		for i, s := range p.FieldConfig.Defaults.Thresholds.Steps {
			qt.Check(t, qt.IsTrue((s.Value == nil) == (i == 0)), qt.Commentf("%s: thresholds begin with none", p.Title))
			if s.Value != nil {
				qt.Check(t, qt.IsTrue(*s.Value > last), qt.Commentf("%s: thresholds grow", p.Title))
				last = *s.Value
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			labels, err := promql(target.Expr, known)
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s: %s", p.Title, target.Expr))
			qt.Check(t, qt.IsTrue(target.Datasource.UID == "${datasource}" && !refs[target.RefID]), qt.Commentf("%s", p.Title))
			qt.Check(t, qt.Equals(strings.Count(target.Expr, `job=~"$job"`), len(regexp.MustCompile(`(tsugi|process|go)_\w+\{`).FindAllString(target.Expr, -1))),
				qt.Commentf("%s: of the server that is chosen, and no other", p.Title))
			refs[target.RefID] = true
			for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				qt.Check(t, qt.SliceContains(labels, l[1]), qt.Commentf("%s: %s", p.Title, target.LegendFormat))
				for _, o := range p.FieldConfig.Overrides { // the colour of a value that there is
					if len(p.Targets) == 1 && target.LegendFormat == "{{"+l[1]+"}}" {
						qt.Check(t, qt.IsTrue(has(known, target.Expr, l[1], o.Matcher.Options)), qt.Commentf("%s: %s is never %s", p.Title, l[1], o.Matcher.Options))
					}
				}
			}
			for name := range known {
				if regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `(_bucket|_sum|_count)?[{\[]`).MatchString(target.Expr) {
					used[name] = true
				}
			}
		}
	}
	for name := range known {
		if strings.HasPrefix(name, "tsugi_") {
			qt.Check(t, qt.IsTrue(used[name]), qt.Commentf("no panel shows %s", name))
		}
	}
}

// has tells whether a label of a metric in an expression can have a value.
func has(known map[string]metric, expr, label, value string) bool {
	for name, m := range known {
		if strings.Contains(expr, name+"{") && slices.Contains(m.labels[label], value) {
			return true
		}
	}
	return false
}
