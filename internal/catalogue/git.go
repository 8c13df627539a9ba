// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
)

// GitRequest says what to import from a git tree.
type GitRequest struct {
	Dir     string   // a clone, with or without a work tree
	Commits []string // commits, or ranges A..B; ranges oldest first, without merges
	Paths   []string // only commits that change files below these; all of a commit is taken
}

// Git reads commits of a kernel tree as fixes, in the order given. CVEs come
// from the catalogue's records that name the commit, or the upstream commit
// that it says it is, as what fixed them; and from its message. Commits that
// change nothing (merges) are left out. Errors: TS1208.
func (c *Catalogue) Git(ctx context.Context, req GitRequest, rep progress.Reporter) ([]*series.Fix, error) {
	g := git{dir: req.Dir}
	ids, err := g.resolve(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, code.New("TS1208", req.Dir, "there is no commit in "+strings.Join(req.Commits, " "))
	}
	records, err := c.Records(nil)
	if err != nil {
		return nil, err
	}
	task := rep.Start("read commits", int64(len(ids)), progress.Files)
	out, err := g.read(ctx, ids, fixedBy(records), task)
	task.Done(err)
	return out, err
}

// fixedBy finds CVEs by the first twelve digits of the commits that fixed
// them; FixedBy then compares the rest.
func fixedBy(records map[string]cve.Record) map[string][]cve.Record {
	out := make(map[string][]cve.Record)
	for _, id := range sortedKeys(records) {
		r := records[id]
		var seen []string
		for _, p := range r.Commits {
			if len(p.Fixed) >= 12 && !slices.Contains(seen, p.Fixed[:12]) && !r.Rejected {
				seen = append(seen, p.Fixed[:12])
				out[p.Fixed[:12]] = append(out[p.Fixed[:12]], r)
			}
		}
	}
	return out
}

type git struct{ dir string }

// run calls git without its configuration having a say in what it prints.
func (g git) run(ctx context.Context, stdin string, args ...string) ([]byte, error) {
	args = append([]string{
		"-C", g.dir, "-c", "core.quotePath=true", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "log.showSignature=false",
		"-c", "diff.algorithm=default", "-c", "core.attributesFile=/dev/null",
	}, args...)
	out, err := kernel.Command{Name: "git", Args: args, Stdin: strings.NewReader(stdin), Env: []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1",
	}}.Run(ctx)
	if exit, ok := errors.AsType[*kernel.ExitError](err); ok {
		last := strings.TrimSpace(string(exit.Output))
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		return nil, code.New("TS1208", g.dir, last).With(err)
	}
	return out, err
}

// resolve names the commits of a request, in order.
func (g git) resolve(ctx context.Context, req GitRequest) ([]string, error) {
	var ids []string
	for _, word := range req.Commits {
		if strings.HasPrefix(word, "-") || word == "" {
			return nil, code.New("TS1208", fmt.Sprintf("%q", word), "it is not a commit or a range")
		}
		args := []string{"rev-list", "--reverse", "--topo-order", "--no-merges"}
		if !strings.Contains(word, "..") {
			args = []string{"rev-list", "--no-walk"}
		}
		args = append(append(args, "--end-of-options", word, "--"), req.Paths...)
		out, err := g.run(ctx, "", args...)
		if err != nil {
			return nil, err
		}
		for _, id := range strings.Fields(string(out)) {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// batch is how many commits one git shows: their diffs are in memory at once.
const batch = 256

func (g git) read(ctx context.Context, ids []string, fixed map[string][]cve.Record, task progress.Task) ([]*series.Fix, error) {
	var out []*series.Fix
	for part := range slices.Chunk(ids, batch) {
		// A line with only NUL stands before each commit; a kernel commit has none inside.
		text, err := g.run(ctx, strings.Join(part, "\n")+"\n", "log", "--no-walk=unsorted", "--stdin", "-p", "--no-renames", "--no-color", "--no-ext-diff",
			"--no-textconv", "--no-notes", "--no-mailmap", "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--encoding=UTF-8",
			"--format=%x00%H%x00%cs%x00%B%x00")
		if err != nil {
			return nil, err
		}
		fields := bytes.Split(text, []byte{0})
		if len(fields) != 1+4*len(part) {
			return nil, code.New("TS1208", g.dir, fmt.Sprintf("git showed %d pieces of %d commits", len(fields), len(part)))
		}
		for i := range part {
			f := fields[1+4*i : 5+4*i]
			x, err := commitFix(string(f[0]), string(f[1]), string(f[2]), bytes.TrimLeft(f[3], "\n"), fixed)
			if err != nil {
				return nil, err
			}
			if x != nil {
				out = append(out, x)
			}
			task.Add(1)
		}
	}
	return out, nil
}

var (
	upstreamForm = regexp.MustCompile(`(?mi)^\s*\[?\s*(?:upstream commit|commit) ([0-9a-f]{12,40})(?: upstream\.?)?\s*\]?\s*$`)
	messageCVE   = regexp.MustCompile(`\bCVE-\d{4}-\d{4,19}\b`)
	slugForm     = regexp.MustCompile(`[^a-z0-9_]+`)
)

// commitFix makes a fix of one commit, or nil when it changes no text.
func commitFix(id, date, message string, diff []byte, fixed map[string][]cve.Record) (*series.Fix, error) {
	subject, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	subject = strings.Join(strings.FieldsFunc(subject, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	f := &series.Fix{Meta: series.Meta{ID: id[:12] + "-" + slug(subject), Title: subject, Commit: id, FirstSeen: date}}
	commits := []string{id}
	if m := upstreamForm.FindStringSubmatch(message); m != nil {
		f.Origin = m[1]
		commits = append(commits, m[1])
	}
	f.CVEs = messageCVE.FindAllString(message, -1)
	var said []string
	for _, commit := range commits {
		for _, r := range fixed[commit[:12]] {
			if r.FixedBy(commit) && !slices.Contains(said, r.ID) {
				said = append(said, r.ID)
				f.CVEs = append(f.CVEs, r.ID)
			}
		}
	}
	slices.Sort(f.CVEs)
	f.CVEs = slices.Compact(f.CVEs)
	e := series.Entry{Subject: subject, CVEs: f.CVEs, Confidence: series.Stated, Why: "the commit itself"}
	if len(said) > 0 {
		e.Why = "the CVE records name this commit"
	}
	f.Entries = []series.Entry{e}
	d, err := fix.Parse(f.ID+".diff", diff)
	if c := code.Of(err); c == "TS1107" || c == "TS1101" && len(bytes.TrimSpace(diff)) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", id, err)
	}
	d.ID, d.Title, d.CVEs, d.Origin = f.ID, f.Title, f.CVEs, f.Origin
	f.Diff, f.Subsystem = d, series.SubsystemOf(d)
	return f, f.Check("commit " + id)
}

// slug makes the readable part of an id.
func slug(subject string) string {
	s := strings.Trim(slugForm.ReplaceAllString(strings.ToLower(subject), "-"), "-")
	if len(s) > 50 {
		s = strings.TrimRight(s[:50], "-")
	}
	if s == "" {
		s = "commit"
	}
	return s
}
