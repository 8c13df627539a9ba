// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// PipelineOptions make a Pipeline.
type PipelineOptions struct {
	Home    string   // of kernels, sources and objects
	Jobs    int      // compilers at a time; 0: one per processor
	Builder string   // program and version, for manifests
	SignKey []string // PEM files of the module's signing key, and of its certificate; nil: modules are not signed
}

// Pipeline is the Executor that builds and proves.
type Pipeline struct {
	opt      PipelineOptions
	store    *kernel.Store
	packages *userland.Store
	key      [][]byte
}

// NewPipeline opens the home of the targets.
func NewPipeline(o PipelineOptions) (*Pipeline, error) {
	s, err := kernel.OpenStore(o.Home)
	if err != nil {
		return nil, err
	}
	packages, err := userland.OpenStore(o.Home)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{opt: o, store: s, packages: packages}
	for _, f := range o.SignKey {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, code.New("TS7806", f, "").With(err)
		}
		p.key = append(p.key, b)
	}
	return p, nil
}

// made is what came of a build, of a kernel or a package.
type made struct {
	verdict  string
	report   any
	artifact *livepatch.Patch // of a live one
	omitted  []api.LeftFix
	tell     func(*Log)
	// proof begins a proof of the artifact.
	proof func() (proof.Request, error)
}

// Execute prepares the target, builds the live patch and, if asked, proves it.
func (p *Pipeline) Execute(ctx context.Context, l *api.Lease, log *Log, b Backend) (*Outcome, error) {
	fixes, err := parseFixes(l.Spec.Fixes)
	if err != nil {
		return nil, err
	}
	if l.Update != nil {
		if _, err := choose(ctx, l.Update, l.Spec.Target, b); err != nil {
			return nil, err // before a target is prepared for minutes
		}
	}
	old, err := previous(ctx, l, b)
	if err != nil {
		return nil, err
	}
	if l.Update == nil {
		warnOfLostFixes(old, fixes, log)
	}
	work := p.makeForKernel
	if userland.IsName(l.Spec.Target) {
		work = p.makeForPackage
	}
	m, err := work(ctx, l, fixes, old, log, b)
	if err != nil {
		return nil, err
	}
	out := &Outcome{Verdict: m.verdict, Omitted: m.omitted}
	if out.Report, err = json.Marshal(m.report); err != nil {
		return out, err
	}
	m.tell(log)
	if m.artifact == nil {
		return out, nil
	}
	if out.Artifact, err = m.artifact.Bytes(); err != nil {
		return out, err
	}
	if !l.Spec.Prove {
		return out, nil
	}
	record, err := p.prove(ctx, l, m, log)
	if err != nil {
		return out, err
	}
	if out.Proof, err = record.Bytes(); err != nil {
		return out, err
	}
	out.Before, out.After = console(record.Before), console(record.After)
	if out.Proven = record.Verdict == proof.Proved; !out.Proven {
		for _, q := range record.Problems {
			log.Problem(q)
		}
		return out, code.New("TS7506", l.Spec.Target, "")
	}
	log.Printf("the proof holds")
	return out, nil
}

// makeForKernel builds for a kernel.
func (p *Pipeline) makeForKernel(ctx context.Context, l *api.Lease, fixes []*fix.Fix, old *livepatch.Patch, log *Log, b Backend) (*made, error) {
	t, err := p.target(ctx, l.Spec.Target, log)
	if err != nil {
		return nil, err
	}
	if old != nil && old.Manifest.Target.BuildID != t.BuildID {
		old = nil // a live patch of an older build of this kernel is not what this one replaces
	}
	m := &made{}
	var r *builder.Report
	if l.Update != nil {
		r, m.omitted, err = p.buildUpdate(ctx, l, t, old, log, b)
	} else {
		r, err = p.build(ctx, l, t, fixes, log, b)
	}
	if err != nil {
		return nil, err
	}
	m.verdict, m.report = string(r.Verdict), r
	if r.Verdict == builder.Live {
		m.artifact = r.Artifact
	}
	m.tell = func(log *Log) { tellVerdict(r, log) }
	m.proof = func() (proof.Request, error) {
		req, err := proof.FromPatch(r.Artifact, proof.ForKernel(t))
		if err == nil && old != nil {
			err = req.Supersedes(old)
		}
		return req, err
	}
	return m, nil
}

// console is what a machine wrote; nil if it ran not or wrote more than is kept.
func console(r *proof.Run) []byte {
	if r == nil || len(r.Console) > api.MaxConsole {
		return nil
	}
	return []byte(r.Console)
}

// target is a prepared kernel; one that is missing is prepared first.
func (p *Pipeline) target(ctx context.Context, name string, log *Log) (*kernel.Target, error) {
	t, err := p.store.Get(name)
	if code.Of(err) == "TS2302" {
		log.Printf("kernel %s is prepared, which takes minutes the first time", name)
		if t, err = p.store.Add(ctx, name, kernel.AddOptions{Jobs: p.opt.Jobs}, log); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	return t, kbuild.Index(ctx, t, log)
}

// previous is the live patch that the new one takes the place of, if any.
func previous(ctx context.Context, l *api.Lease, b Backend) (*livepatch.Patch, error) {
	if l.Previous == "" {
		return nil, nil
	}
	text, err := b.Previous(ctx, l.Job)
	if err != nil {
		return nil, fmt.Errorf("live patch %s: %w", l.Previous, err)
	}
	return livepatch.Read(text)
}

// warnOfLostFixes tells what the newest live patch of the target fixes and this one
// will not: it replaces that one whole.
func warnOfLostFixes(old *livepatch.Patch, fixes []*fix.Fix, log *Log) {
	if old == nil {
		return
	}
	for _, f := range old.Manifest.Fixes {
		if !slices.ContainsFunc(fixes, func(n *fix.Fix) bool { return n.ID == f.ID }) {
			log.Printf("note: %s fixes %s, which is not among the fixes of this job; the new live patch replaces it whole", old.Manifest.Name, f.ID)
		}
	}
}

func (p *Pipeline) build(ctx context.Context, l *api.Lease, t *kernel.Target, fixes []*fix.Fix, log *Log, b Backend) (*builder.Report, error) {
	req := builder.Request{
		Target: t, Fixes: fixes, Version: l.Version, Builder: p.opt.Builder, Jobs: p.opt.Jobs, Shared: shared{b},
		Accept: l.Spec.Accept,
	}
	if l.Spec.Name != "" {
		// The kernel knows live patches by name, and two versions are loaded at a
		// time while one replaces the other.
		req.Name = fmt.Sprintf("%s_v%d", l.Spec.Name, l.Version)
	}
	if len(p.key) > 0 {
		var err error
		if req.Sign, err = builder.Signer(t, p.key...); err != nil {
			return nil, err
		}
	}
	return builder.Build(ctx, req, log)
}

func tellVerdict(r *builder.Report, log *Log) {
	log.Printf("verdict: %s, %d functions in %d objects", r.Verdict, len(r.Functions), len(r.Objects))
	for _, q := range r.Refusals {
		log.Problem(q.Problem)
	}
	for _, q := range r.Risks {
		log.Printf("risk: %s", q.Error())
	}
	for _, u := range r.Unbuilt {
		log.Printf("%s: %s %s", u.Path, u.Outcome, u.Why)
	}
}

func (p *Pipeline) prove(ctx context.Context, l *api.Lease, m *made, log *Log) (*proof.Proof, error) {
	req, err := m.proof()
	if err != nil {
		return nil, err
	}
	var needs proof.Needs
	if err := needs.Read("reproducer", l.Spec.Repro); err != nil {
		return nil, err
	}
	for _, name := range needs.Programs {
		if strings.Contains(name, "/") {
			return nil, code.New("TS1905", "reproducer", fmt.Sprintf("program %q: a job names programs of the worker without their directory", name))
		}
	}
	needs.Apply(&req)
	req.Reproducer, req.Cycles, req.CacheDir = l.Spec.Repro, 3, p.store.Home()
	req.Sequential = runtime.NumCPU() < 2
	return proof.Prove(ctx, req, log)
}

// shared is the object cache of a backend.
type shared struct{ b Backend }

func (s shared) Get(ctx context.Context, key string) ([]byte, error) { return s.b.CacheGet(ctx, key) }

func (s shared) Put(ctx context.Context, key string, entry []byte) error {
	if len(entry) > api.MaxObject {
		return errors.New("object cache: too large an entry")
	}
	return s.b.CachePut(ctx, key, entry)
}
