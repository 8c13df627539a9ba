// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"context"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// ready does what can be done without Kbuild: every function is found and
// proven, every symbol resolved and named.
func ready(t *Target, opts Options, inputs []Input) (*Module, []*piece, *linkage, error) {
	if err := checkOptions(opts); err != nil {
		return nil, nil, nil, err
	}
	m := &Module{Name: opts.Name}
	pieces, err := prepare(t, inputs, &m.Proof)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := m.list(pieces); err != nil {
		return nil, nil, nil, err
	}
	own, err := t.ownSymbols(pieces)
	if err != nil {
		return nil, nil, nil, err
	}
	ln := name(t, pieces, own)
	ln.edits = !opts.Keep
	m.Stays = stays(pieces)
	ln.stays = len(m.Stays) > 0
	if opts.Keep && slices.ContainsFunc(pieces, func(p *piece) bool { return p.edits != nil }) {
		return nil, nil, nil, code.New("TS5303", opts.Name, "it edits data, and would stand on others that may leave before it")
	}
	if m.States, err = statesOf(pieces, ln.edits); err != nil {
		return nil, nil, nil, err
	}
	for _, p := range pieces {
		if err := t.landings(p); err != nil {
			return nil, nil, nil, err
		}
		if err := p.joinCold(ln); err != nil {
			return nil, nil, nil, err
		}
		p.joinReached(ln)
	}
	return m, pieces, ln, nil
}

func build(ctx context.Context, t *Target, opts Options, inputs []Input) (*Module, error) {
	m, pieces, ln, err := ready(t, opts, inputs)
	if err != nil {
		return nil, err
	}
	source, err := writeTables(opts, pieces, ln)
	if err != nil {
		return nil, err
	}
	linked, log, err := link(ctx, t, opts.Name, source, pieces)
	if err != nil {
		return nil, err
	}
	m.Warnings = unexpected(log)
	for _, w := range m.Warnings {
		// A section mismatch or a namespace that is not imported; objtool's
		// warnings are of the kind that kernel builds have as well.
		if strings.Contains(w, "modpost: ") {
			return nil, code.New("TS5305", opts.Name, w)
		}
	}
	f, err := elfobj.Read(linked)
	if err != nil {
		return nil, code.New("TS5304", opts.Name, "").With(err)
	}
	if m.Symbols, err = finish(f, ln, t.Exports); err != nil {
		return nil, err
	}
	if m.KO, err = writeModule(f); err != nil {
		return nil, code.New("TS5304", opts.Name, "").With(err)
	}
	reference, err := t.reference(inputs)
	if err != nil {
		return nil, err
	}
	if err := Check(t, m.KO, reference); err != nil {
		return nil, err
	}
	if opts.Sign != nil {
		if m.KO, err = opts.Sign(m.KO); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// reference picks a shipped module: a patched one, or any that the kernel
// proper's exports do not know but the target has.
func (t *Target) reference(inputs []Input) ([]byte, error) {
	for _, in := range inputs {
		if in.Module != "" {
			return t.Module(in.Module)
		}
	}
	if t.AnyModule == "" {
		return nil, nil
	}
	return t.Module(t.AnyModule)
}

// list reports the replaced functions in the order of the inputs.
func (m *Module) list(pieces []*piece) error {
	by := map[string]string{}
	var bad problems
	for _, p := range pieces {
		for _, f := range p.funcs {
			fn := Function{
				Object: p.object(), File: p.in.Object, Name: f.entry.name, SymPos: f.pos,
				Address: f.entry.at.addr, Size: f.orig.Size, NewSize: f.new.Size, Change: f.change,
			}
			if f.entry.at.sec != nil {
				fn.Section = f.entry.at.sec.Name
			}
			// ftrace redirects addresses: a second replacement would hide the first.
			at := p.object() + ":" + f.entry.at.String()
			if first, ok := by[at]; ok {
				_ = bad.add(p.in.Object, code.New("TS5303", p.in.Object+": "+fn.Name, "it is the same code as "+first))
				continue
			}
			by[at] = p.in.Object + ": " + fn.Name
			m.Functions = append(m.Functions, fn)
		}
	}
	hooked := slices.ContainsFunc(pieces, func(p *piece) bool { return len(p.hooks) > 0 || p.edits != nil })
	if len(m.Functions) == 0 && !hooked {
		return code.New("TS5302", m.Name, "")
	}
	return bad.join()
}

func checkOptions(o Options) error {
	if err := checkName(o.Name); err != nil {
		return err
	}
	for k := range o.Info {
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return code.New("TS5301", k, "it is a modinfo key")
		}
	}
	return nil
}

// checkName accepts the names that the kernel and scripts take as they are.
// Kbuild would turn - into _, and the module loader cuts at 55 bytes.
func checkName(name string) error {
	if name == "" || len(name) > maxObjectName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return code.New("TS5301", name, "")
	}
	return nil
}
