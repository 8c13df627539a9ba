// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// VerifyObject proves for every function of an object that the target holds
// it as the source gives it, and returns what was compared. Functions that the
// linker dropped or another definition replaced are errors too.
func VerifyObject(t *Target, object, module string, plain *elfobj.File) (Proof, error) {
	o, err := t.owner(module)
	if err != nil {
		return Proof{}, err
	}
	l := newLayout(object, o, plain)
	var p Proof
	for _, s := range plain.Symbols {
		if s.Type != elf.STT_FUNC || s.Section == nil || s.Bind == elf.STB_WEAK || !placed(s.Section) {
			continue
		}
		if err := l.prove(s, &p); err != nil {
			return p, err
		}
		p.Functions++
	}
	return p, nil
}

// proveFunction compares a function and its .cold part.
func (l *layout) proveFunction(s *elfobj.Symbol, p *Proof) error {
	if err := l.traced(s); err != nil {
		return err
	}
	if err := l.prove(s, p); err != nil {
		return err
	}
	for _, cold := range l.plain.Symbols {
		// gcc before 9 numbers them.
		if cold.Section == nil || cold.Name != s.Name+".cold" && !strings.HasPrefix(cold.Name, s.Name+".cold.") {
			continue
		}
		if err := l.prove(cold, p); err != nil {
			return err
		}
	}
	p.Functions++
	return nil
}

// prove compares one symbol's bytes with the target's.
func (l *layout) prove(s *elfobj.Symbol, p *Proof) error {
	base, err := l.base(s.Section)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("%s: %s", l.object, s.Name)
	if s.Value+s.Size < s.Value {
		return code.New("TS5106", where, "its size overflows")
	}
	c := comparison{layout: l, sec: s.Section, from: s.Value, to: s.Value + s.Size, base: base}
	if m := c.run(); m != nil {
		m.off -= s.Value
		return code.New("TS5106", where, fmt.Sprintf("in %s at %s", l.owner, plus(base, s.Value))).With(m)
	}
	p.Bytes += int(s.Size)
	p.Exact += c.exact
	p.Masked += c.unknown
	return nil
}

// traced makes sure that ftrace can redirect the function: it begins with a
// call to __fentry__, behind an ENDBR at most (4 bytes, then the opcode).
func (l *layout) traced(s *elfobj.Symbol) error {
	for _, r := range s.Section.Relocs {
		if r.Off > s.Value && r.Off-s.Value <= 5 && r.Sym != nil && strings.HasPrefix(r.Sym.Name, "__fentry__") {
			return nil
		}
	}
	return code.New("TS5107", fmt.Sprintf("%s: %s", l.object, s.Name), "")
}
