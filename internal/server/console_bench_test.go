// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// What the console is measured with.
const (
	benchMachines = 100_000
	benchCVEs     = 5_000
	benchTargets  = 6
	benchVersions = 8  // live patches of each target
	benchAsks     = 20 // of each operation
)

// benchPackages are what the processes of every machine map files of.
var benchPackages = []livepatch.TargetRef{
	openssl, postgres,
	{Name: "debian:libc6=2.36-9+deb12u7", PackageVersion: "2.36-9+deb12u7", Arch: "x86_64"},
	{Name: "debian:mariadb-server=1:10.11.18-0+deb12u1", PackageVersion: "1:10.11.18-0+deb12u1", Arch: "x86_64"},
	{Name: "debian:libgnutls30=3.7.9-2+deb12u7", PackageVersion: "3.7.9-2+deb12u7", Arch: "x86_64"},
}

const (
	benchPackageVersions = 2
	benchPackageFixes    = 30 // of each version more
)

// benchPackagesOf are the packages of a machine: each stands by itself, most as they should.
func benchPackagesOf(machine int) []api.Package {
	x := rand.New(rand.NewPCG(7, uint64(machine)))
	var out []api.Package
	for _, of := range benchPackages {
		p := api.Package{ID: of.ID(), Target: of.Name, Processes: api.Processes{Protected: 1 + x.IntN(200)}}
		p.Patch = api.Patch{ID: trust.PatchID(of.Name, benchPackageVersions), Name: "tsugi_package", Version: benchPackageVersions, State: api.Healthy, Since: 5}
		switch n := x.IntN(100); {
		case n < 6:
			p.Processes.Pending, p.Processes.Unprotected = x.IntN(3), 1+x.IntN(4)
			p.Reasons = []api.ProcessReason{{Problem: api.Problem{Code: "TS9608", What: "a seccomp filter forbids mmap"}, Processes: p.Processes.Unprotected, Program: "sshd"}}
		case n < 11:
			p.Patch.ID, p.Patch.Version = trust.PatchID(of.Name, 1), 1
		case n < 14:
			p.Processes, p.Patch = api.Processes{Unprotected: 5}, api.Patch{}
		case n < 15:
			p.Patch.State, p.Processes = api.Quarantined, api.Processes{Unprotected: 5}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, comparePackages)
	return out
}

func benchTarget(n int) string { return "debian:6.1.0-" + fmt.Sprint(50+n) + "-amd64" }

func benchBuildID(n int) string { return strings.Repeat(fmt.Sprintf("%02x", 0xa0+n), 20) }

// BenchmarkConsole asks everything that the console's pages ask, of a server
// with 100,000 machines and 5,000 CVEs, and writes what 95 of 100 answers took at
// most into the file that TSUGI_BENCH_CONSOLE names: test/bench-console.sh.
// TSUGI_BENCH_ENGINE is for one engine only, TSUGI_BENCH_PATH for the operations
// that it fits, a regular expression.
func BenchmarkConsole(b *testing.B) {
	file := os.Getenv("TSUGI_BENCH_CONSOLE")
	if file == "" {
		b.Skip("test/bench-console.sh runs it")
	}
	only := regexp.MustCompile(os.Getenv("TSUGI_BENCH_PATH"))
	out, err := os.Create(file)
	qt.Assert(b, qt.IsNil(err))
	defer out.Close()
	for _, engine := range []string{"sqlite", "postgresql"} {
		if !strings.Contains(engine, os.Getenv("TSUGI_BENCH_ENGINE")) {
			continue
		}
		b.Run(engine, func(b *testing.B) {
			dsn := "sqlite:" + filepath.Join(b.TempDir(), "db")
			if engine == "postgresql" {
				dsn = testenv.Postgres(b)
			}
			begun := time.Now()
			s := benchSite(b, dsn)
			kept, stop := context.WithCancel(b.Context())
			defer stop()
			go s.metrics.fleet.keep(kept) // as a server that runs does
			b.Logf("filled in %s", time.Since(begun).Round(time.Second))
			for _, path := range append(s.benchPaths(), s.benchRollout()...) {
				if !only.MatchString(path) {
					continue
				}
				before := processor()
				took := s.askAgain(path)
				used := (processor() - before) / benchAsks // of this process: a busy host makes no difference to it
				fmt.Fprintf(out, "%s %.2f %.2f %.2f %s\n", engine, ms(took[len(took)/2]), ms(took[(len(took)*95+99)/100-1]), ms(used), path)
			}
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// askAgain asks often, while machines check in and now and then an operator
// changes something, so that nothing stays in memory for good.
func (s *site) askAgain(path string) []time.Duration {
	var all []time.Duration
	for i := range benchAsks {
		if i%10 == 5 {
			s.metrics.fleet.mu.Lock()
			s.metrics.fleet.when = s.metrics.fleet.when.Add(-fleetCountsFor) // as if time had passed
			s.metrics.fleet.mu.Unlock()
		}
		// What is asked with a body is written POST:path:body.
		method, body := http.MethodGet, io.Reader(nil)
		where := path
		if rest, ok := strings.CutPrefix(path, "POST:"); ok {
			var text string
			where, text, _ = strings.Cut(rest, ":")
			method, body = http.MethodPost, strings.NewReader(text)
		}
		r := httptest.NewRequest(method, where, body)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+s.secret)
		w := httptest.NewRecorder()
		begun := time.Now()
		s.Handler().ServeHTTP(w, r)
		all = append(all, time.Since(begun))
		qt.Assert(s.t, qt.Equals(w.Code, http.StatusOK), qt.Commentf("%s: %.300s", path, w.Body))
	}
	slices.Sort(all)
	return all
}

func (s *site) benchPaths() []string {
	machine := fmt.Sprintf("01900000-0000-7000-8000-%012x", 77_777)
	middle := fmt.Sprintf("01900000-0000-7000-8000-%012x", 50_000)
	patch := "debian-6.1.0-50-amd64-v8"
	cve, cve0 := benchCVE(4321), benchPackageCVE(0, 1)
	library := trust.PatchID(openssl.Name, benchPackageVersions)
	return []string{
		"/v1/whoami", "/v1/overview", "/v1/history?days=30",
		"/v1/machines?limit=50", "/v1/machines?limit=50&after=" + middle, "/v1/machines?limit=50&q=host-0777", "/v1/machines?limit=50&q=nosuch",
		"/v1/machines?limit=50&protection=failing", "/v1/machines?limit=50&protection=partly", "/v1/machines?limit=50&stale=true", "/v1/machines?limit=50&tier=edge&group=group-7&protection=silent",
		"/v1/machines?limit=50&need=reboot", "/v1/machines?limit=50&cve=" + cve, "/v1/machines?limit=50&cve=CVE-1999-0001",
		"/v1/machines?limit=1000", // a page of the file to download
		"/v1/machines/" + machine, "/v1/reports?limit=20&machine=" + machine,
		"/v1/cves?limit=50", "/v1/cves?limit=50&q=0777", "/v1/cves?limit=50&state=reboot&open=true&severity=high", "/v1/cves?limit=50&after=" + benchCVE(2),
		"/v1/cves?limit=50&policy=careful", "/v1/cves/" + cve, "/v1/cves/CVE-1999-0001",
		"/v1/livepatches?limit=50", "/v1/livepatches?limit=50&cve=" + cve, "/v1/livepatches?limit=50&tier=stable",
		"/v1/livepatches/" + patch, "/v1/livepatches/" + patch + "/contents", "/v1/livepatches/" + patch + "/diff?fix=fix-00003",
		"/v1/livepatches/" + patch + "/provenance", "/v1/reports?limit=20&patch=" + patch, "/v1/reports?limit=20&kind=crash", "/v1/reports?limit=5",
		"/v1/policies", "/v1/policies/default", "/v1/policies/careful", "/v1/updates", "/v1/targets", "/v1/tiers", "/v1/tokens", "/v1/jobs?limit=50",
		"/v1/audit?limit=50", "/v1/audit/chain", "/v1/settings", "/v1/trust", "/v1/operators", "/v1/system",
		"/v1/users", "/v1/sessions", "/v1/keys", "/v1/approvals", "/v1/approvals/actions",
		"/v1/notifications", "/v1/notifications/channels", "/v1/notifications/deliveries?limit=50",
		`POST:/v1/policies/default/preview:{"exclude":[{"cve":"` + cve + `","reason":"tried","owner":"ann"}]}`,
		`POST:/v1/policies/slow/preview:{"groups":["group-5"]}`,
		"/v1/machines?limit=50&q=libssl3", "/v1/machines?limit=50&need=restart", "/v1/machines?limit=50&cve=" + cve0, "/v1/cves/" + cve0,
		"/v1/cves?limit=50&target=" + url.QueryEscape(openssl.Name), "/v1/livepatches?limit=50&target=" + url.QueryEscape(openssl.Name),
		"/v1/livepatches/" + library, "/v1/livepatches/" + library + "/contents", `POST:/v1/rollouts/preview:{"livepatch":"` + library + `","tier":"stable"}`,
	}
}

// benchRollout starts a rollout through a tier's machines, and is what its pages ask.
func (s *site) benchRollout() []string {
	ctx := s.t.Context()
	r, err := s.admin.CreateRollout(ctx, api.NewRollout{LivePatch: benchPatch(0, benchVersions, "").ID, Tier: "stable"})
	qt.Assert(s.t, qt.IsNil(err))
	for range 2 {
		qt.Assert(s.t, qt.IsNil(s.rollOnce(ctx)))
	}
	some, err := s.admin.RolloutMachines(ctx, r.ID, "", 0, "")
	qt.Assert(s.t, qt.IsNil(err))
	path := "/v1/rollouts/" + r.ID
	return []string{
		"/v1/rollouts?limit=50", path, path + "/steps?limit=50", path + "/machines?limit=50", path + "/machines/" + some.Items[0].Machine,
		"/v1/rollout-settings", "/v1/promotions", `POST:/v1/rollouts/preview:{"livepatch":"` + benchPatch(1, benchVersions, "").ID + `","tier":"stable"}`,
	}
}

func benchPackageNumber(n, i int) int { return 1000*n + i }

func benchPackageCVE(n, i int) string { return cve(benchPackageNumber(n, i)) }

func benchCVE(n int) string { return fmt.Sprintf("CVE-2026-%05d", 10_000+n) }

// benchFix is a fix of two CVEs.
func benchFix(t testing.TB, n int) *series.Fix {
	id := fmt.Sprintf("fix-%05d", n)
	raw := fmt.Sprintf("--- a/fs/ext4/f%05d.c\n+++ b/fs/ext4/f%05d.c\n@@ -1,3 +1,4 @@ int f%d(void)\n \tint a;\n+\tint b%d;\n \tint c;\n \tint d;\n", n, n, n, n)
	d, err := fix.Parse(id, []byte(raw))
	qt.Assert(t, qt.IsNil(err))
	return &series.Fix{Meta: series.Meta{
		ID: id, Title: fmt.Sprintf("ext4: check the length of thing %d before it is used", n), CVEs: []string{benchCVE(2 * n), benchCVE(2*n + 1)},
		Severity: []series.Severity{series.Low, series.Medium, series.High, series.Critical}[n%4], Exploited: n%100 == 0, Update: "6.1.192-1",
	}, Diff: d}
}

func benchSite(b *testing.B, dsn string) *site {
	s := siteOn(b, dsn, func(o *Options) {
		o.Log = slog.New(slog.DiscardHandler)
		benchMachineRows(b, dsn)
	})
	ctx := b.Context()
	all, facts := &series.Series{Name: "bench", From: "6.1.190-1", To: "6.1.192-1"}, map[string]selection.Fact{}
	for n := range benchCVEs / 2 {
		f := benchFix(b, n)
		all.Fixes = append(all.Fixes, f)
		switch n % 10 {
		case 7, 8:
			facts[f.ID] = selection.Fact{Verdict: selection.NeedsReboot, Code: "TS5103", Why: "the layout of a struct changes"}
		case 9:
			facts[f.ID] = selection.Fact{Verdict: selection.IsNotAffected}
		default:
			facts[f.ID] = selection.Fact{Verdict: selection.IsLive}
		}
	}
	for t := range benchTargets {
		s.benchPatches(t, all, facts)
		p, err := selection.Push(benchTarget(t), all, facts).Bytes()
		qt.Assert(b, qt.IsNil(err))
		_, err = s.pub.PushUpdate(ctx, "update", false, p, "ann")
		qt.Assert(b, qt.IsNil(err))
	}
	for n, of := range benchPackages {
		for v := 1; v <= benchPackageVersions; v++ {
			var cves []int
			for i := range benchPackageFixes * v {
				cves = append(cves, benchPackageNumber(n, i))
			}
			p := s.publishPackage(of, v, cves...)
			for range 3 {
				_, err := s.pub.Promote(ctx, p.ID, "", "ann")
				qt.Assert(b, qt.IsNil(err))
			}
		}
	}
	for _, p := range []api.Policy{
		{Name: "careful", MinSeverity: "high"},
		{Name: "slow", Exclusions: []api.Exclusion{{CVE: benchCVE(12), Reason: "the driver of ours", Owner: "ann"}, {Fix: "fix-00003", Reason: "tried", Owner: "bob"}}},
	} {
		_, err := s.admin.SetPolicy(ctx, p)
		qt.Assert(b, qt.IsNil(err))
		_, err = s.admin.SetPolicyGroups(ctx, p.Name, []string{"group-1-" + p.Name, "group-3"})
		qt.Assert(b, qt.IsNil(err))
	}
	for i := range 400 {
		_, err := s.db.AddSample(ctx, fmt.Appendf(nil, `{"machines":%d,"protections":{"protected":%d}}`, benchMachines, i))
		qt.Assert(b, qt.IsNil(err))
		s.shift.Add(-int64(time.Hour))
	}
	s.shift.Store(0)
	qt.Assert(b, qt.IsNil(s.db.Update(ctx, func(tx *store.Tx) error {
		for i := range 5_000 {
			if err := tx.Audit(ctx, store.AuditEntry{Actor: "ann", Action: "machine.change", Object: fmt.Sprint(i), Detail: "tier edge → beta"}); err != nil {
				return err
			}
		}
		return nil
	})))
	_, err := s.publish.Choose(ctx)
	qt.Assert(b, qt.IsNil(err))
	qt.Assert(b, qt.IsNil(s.catchUp(ctx)))
	return s
}

// benchPatches publishes the live patches of a target.
func (s *site) benchPatches(n int, all *series.Series, facts map[string]selection.Fact) {
	s.t.Helper()
	for v := 1; v <= benchVersions; v++ {
		m := livepatch.Manifest{
			Name: fmt.Sprintf("tsugi_v%d", v), Version: v, Format: livepatch.Format, Compiler: "gcc 12.2.0", Builder: "tsugi 1",
			Target: livepatch.TargetRef{Name: benchTarget(n), Release: releaseOf(benchTarget(n)), Arch: "x86_64", BuildID: benchBuildID(n)},
		}
		diffs := map[string][]byte{}
		for i, f := range all.Fixes[:len(all.Fixes)*v/benchVersions] {
			switch facts[f.ID].Verdict {
			case selection.IsLive:
				m.Fixes = append(m.Fixes, livepatch.FixRef{ID: f.ID, Title: f.Title, CVEs: f.CVEs, Severity: string(f.Severity), Exploited: f.Exploited})
				m.Functions = append(m.Functions, livepatch.Function{Object: "vmlinux", Name: fmt.Sprintf("f%d", i), Change: "changed", Source: "fs/ext4/f.c"})
				diffs[f.ID] = f.Diff.Raw
			case selection.NeedsReboot:
				m.Open = append(m.Open, livepatch.OpenFix{ID: f.ID, Title: f.Title, CVEs: f.CVEs, Severity: string(f.Severity), Exploited: f.Exploited, Kind: livepatch.OpenReboot, Code: "TS5103", Why: "the layout of a struct changes"})
			}
		}
		lp, err := livepatch.New(m, "tsugi.ko", []byte{byte(v)}, diffs)
		qt.Assert(s.t, qt.IsNil(err))
		file, err := lp.Bytes()
		qt.Assert(s.t, qt.IsNil(err))
		row, err := s.pub.Publish(s.t.Context(), publish.PublishRequest{Artifact: file, Actor: "ann"})
		qt.Assert(s.t, qt.IsNil(err))
		if v < benchVersions-1 {
			continue
		}
		for range 3 {
			_, err := s.pub.Promote(s.t.Context(), row.ID, "", "ann")
			qt.Assert(s.t, qt.IsNil(err))
		}
	}
}

// benchMachineRows writes machines and reports straight into the tables.
func benchMachineRows(b testing.TB, dsn string) {
	driver, name := "pgx", dsn
	if file, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, name = "sqlite", file
	}
	db, err := sql.Open(driver, name)
	qt.Assert(b, qt.IsNil(err))
	defer db.Close()
	tx, err := db.BeginTx(b.Context(), nil)
	qt.Assert(b, qt.IsNil(err))
	insert := func(table string, columns int, rows [][]any) {
		b.Helper()
		var q strings.Builder
		q.WriteString("INSERT INTO " + table + " VALUES ")
		var args []any
		for i, row := range rows {
			for j, v := range row {
				sep := ", "
				if j == 0 {
					sep = map[bool]string{true: "(", false: ", ("}[i == 0]
				}
				q.WriteString(sep)
				if driver == "pgx" {
					fmt.Fprintf(&q, "$%d", i*columns+j+1)
				} else {
					q.WriteString("?") // SQLite takes numbers for names, and looks each up among all
				}
				args = append(args, v)
			}
			q.WriteString(")")
		}
		_, err := tx.ExecContext(b.Context(), q.String(), args...)
		qt.Assert(b, qt.IsNil(err))
	}
	now := time.Now().UnixMilli()
	tiers := []string{"edge", "beta", "candidate", "stable", "stable", "stable"}
	const batch = 500
	for first := 0; first < benchMachines; first += batch {
		var machines, seen, reports [][]any
		for i := first; i < first+batch; i++ {
			id, t := fmt.Sprintf("01900000-0000-7000-8000-%012x", i), i%benchTargets
			c := api.CheckIn{Agent: "1.0.0", BootID: "boot-" + id, Able: true, Kernel: api.Kernel{Release: releaseOf(benchTarget(t)), BuildID: benchBuildID(t), Arch: "x86_64"}}
			c.Packages = benchPackagesOf(i)
			heard := now
			switch i % 50 {
			case 0: // nothing
			case 1:
				c.Patch = benchPatch(t, benchVersions, api.Quarantined)
			case 2:
				c.Patch = benchPatch(t, benchVersions, api.Healthy)
				heard -= 24 * time.Hour.Milliseconds()
			case 3, 4, 5, 6, 7:
				c.Patch = benchPatch(t, benchVersions-1, api.Healthy)
			default:
				c.Patch = benchPatch(t, benchVersions, api.Healthy)
			}
			facts, err := json.Marshal(c)
			qt.Assert(b, qt.IsNil(err))
			machines = append(machines, []any{
				id, fmt.Sprintf("%064x", i), fmt.Appendf(nil, "%032x", i), "age1pq1" + strings.Repeat("q", 1900), fmt.Sprintf("host-%06d.example.org", i),
				tiers[i/7%len(tiers)], fmt.Sprintf("group-%d", i%20), "", "Debian 12", "1.0.0", c.Kernel.Release, c.Kernel.BuildID, "x86_64",
				c.Patch.ID, c.Patch.Version, string(c.Patch.State), true, false, false, string(facts), now, 0, 0,
			})
			seen = append(seen, []any{id, heard})
			body, err := json.Marshal(api.Report{ID: "r", Kind: api.ReportState, Kernel: c.Kernel, Patch: c.Patch})
			qt.Assert(b, qt.IsNil(err))
			kind := "state"
			if i%5000 == 1 {
				kind = "crash"
			}
			reports = append(reports, []any{fmt.Sprintf("01900000-0000-7000-9000-%012x", i), id, "r", now, now, kind, c.Patch.ID, string(c.Patch.State), string(body)})
		}
		insert("machines (id, machine_id, credential, recipient, hostname, tier, machine_group, token, os, agent, kernel, build_id, arch, patch, patch_version, patch_state, able, hold, cloned, facts, enrolled, booted, gone)", 23, machines)
		insert("machine_seen (machine, seen)", 2, seen)
		insert("reports (seq, machine, id, time, received, kind, patch, state, body)", 9, reports)
	}
	qt.Assert(b, qt.IsNil(tx.Commit()))
}

func benchPatch(target, version int, state api.State) api.Patch {
	return api.Patch{
		ID: fmt.Sprintf("debian-6.1.0-%d-amd64-v%d", 50+target, version), Name: fmt.Sprintf("tsugi_v%d", version), Version: version, State: state,
	}
}
