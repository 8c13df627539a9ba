// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// kernelTypes is the type information of a target and of its modules.
type kernelTypes struct {
	target  *kernel.Target
	kernel  *layout.Types // nil when the kernel has no BTF
	mu      sync.Mutex
	modules map[string]*layout.Types

	found   sync.Mutex
	changes map[pairKey][]layout.Change // between the compiles of a pair
	matches map[pairKey]bool            // whose original has the types that run
}

func loadTypes(t *kernel.Target) (*kernelTypes, error) {
	img, err := t.Image()
	if err != nil {
		return nil, err
	}
	k := &kernelTypes{target: t, modules: map[string]*layout.Types{}, changes: map[pairKey][]layout.Change{}, matches: map[pairKey]bool{}}
	k.kernel, err = layout.Parse(img.BTF())
	if err != nil && !errors.Is(err, layout.ErrNoTypes) {
		return nil, fmt.Errorf("types of %s: %w", t.Name, err)
	}
	return k, nil
}

func (k *kernelTypes) size(name string) (int, bool) {
	if k.kernel == nil {
		return 0, false
	}
	return k.kernel.Size(name)
}

// of returns the types that code of a module sees, or nil without BTF.
func (k *kernelTypes) of(module string) (*layout.Types, error) {
	if k.kernel == nil || module == "" {
		return k.kernel, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if t, ok := k.modules[module]; ok {
		return t, nil
	}
	t := k.kernel
	if path, ok := k.target.ModulePath(module); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f, err := elfobj.Read(data)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", module, err)
		}
		if s := f.Section(".BTF"); s != nil {
			if t, err = k.kernel.WithModule(s.Data); err != nil {
				return nil, fmt.Errorf("module %s: types: %w", module, err)
			}
		}
	}
	k.modules[module] = t
	return t, nil
}

// mismatches compares with types that several objects share. One at a time: a
// module's types are filled in when first asked for, their base's without lock.
func (k *kernelTypes) mismatches(running, was *layout.Types) []layout.Change {
	k.mu.Lock()
	defer k.mu.Unlock()
	return layout.Mismatches(running, was)
}

// between compares the types of both compiles of a pair and, if they are to be
// replaced, those of the original with what runs. Most of the time of a
// comparison goes here, and the answer is a few words: builds that share a
// Kernel find it out once.
func (k *kernelTypes) between(p kbuild.Pair, orig, patched *elfobj.File, running bool) ([]layout.Change, error) {
	key := keyOf(p)
	k.found.Lock()
	changes, known := k.changes[key]
	matches := k.matches[key]
	k.found.Unlock()
	if known && (matches || !running) {
		return changes, nil
	}
	was, err := layout.Parse(orig.Section(".BTF").Data)
	if err != nil {
		return nil, fmt.Errorf("types of the original: %w", err)
	}
	if running {
		now, err := k.of(p.Module)
		if err != nil {
			return nil, err
		}
		if now != nil {
			if bad := k.mismatches(now, was); len(bad) > 0 {
				return nil, code.New("TS5109", bad[0].Type, bad[0].Detail)
			}
		}
	}
	if !known {
		is, err := layout.Parse(patched.Section(".BTF").Data)
		if err != nil {
			return nil, fmt.Errorf("types of the patched object: %w", err)
		}
		changes = layout.Compare(was, is)
	}
	k.found.Lock()
	defer k.found.Unlock()
	k.changes[key] = changes
	k.matches[key] = k.matches[key] || running
	return changes, nil
}

// compareTypes finds types that the fix lays out anew, and types that lie in
// the running kernel otherwise than in its source. Objects without BTF (an old
// compiler) are not judged.
func (b *build) compareTypes(c *compared, p kbuild.Pair, orig, patched *elfobj.File) error {
	o := p.Object
	if orig.Section(".BTF") == nil || patched.Section(".BTF") == nil {
		return nil
	}
	changes, err := b.types.between(p, orig, patched, !c.diff.Same())
	if err != nil {
		return err
	}
	for _, ch := range changes {
		if slices.ContainsFunc(ch.Added, b.counted) {
			ch = layout.Change{Type: ch.Type, Detail: ch.Detail + ", which counts what is, and has not counted what was before"}
		}
		if both := b.shared(ch); both != "" {
			ch = layout.Change{Type: ch.Type, Detail: ch.Detail + "; " + both}
		}
		p := code.New("TS4030", ch.Type, ch.Detail)
		if ch.Numbers {
			p = code.New("TS4031", ch.Type, ch.Detail)
		}
		members := b.members(ch, o)
		if clash := livepatch.Clash(members, b.req.Members); clash != "" {
			p.Why += "; " + clash
			c.layouts = append(c.layouts, b.place(p, o))
			continue
		}
		switch known := b.objects[ch.Type]; {
		case ch.Grown > 0 && known.room >= ch.Grown && (len(ch.Locks) == 0 || known.zeroed):
			c.padding = append(c.padding, b.place(code.New("TS8033", ch.Type, fmt.Sprintf("%s; %d bytes belong to each", ch.Detail, known.room)), o))
		case ch.Grown == 0 && len(ch.Locks) > 0 && known.zeroed:
			c.padding = append(c.padding, b.place(code.New("TS8032", ch.Type, strings.Join(ch.Locks, ", ")), o))
		case ch.Grown == 0 && len(ch.Pointers) > 0 && known.zeroed:
			c.padding = append(c.padding, b.place(code.New("TS8008", ch.Type, ch.Detail), o))
		case ch.Padding:
			c.padding = append(c.padding, b.place(code.New("TS8008", ch.Type, ch.Detail), o))
		case b.accepts(p):
			c.padding = append(c.padding, b.place(code.New(p.Code, ch.Type, ch.Detail+"; accepted"), o))
		default:
			c.layouts = append(c.layouts, b.place(p, o))
			continue
		}
		c.members = append(c.members, members...)
	}
	return nil
}

// members are the new ones of a struct, where objects have room for them.
func (b *build) members(ch layout.Change, o kbuild.Object) []livepatch.Member {
	if len(ch.Added) == 0 {
		return nil
	}
	name, _ := typeName(ch.Type)
	file, _ := b.typeAt(name, o)
	out := make([]livepatch.Member, len(ch.Added))
	for i := range ch.Added {
		out[i] = livepatch.Member{Struct: ch.Type, File: cmp.Or(file, o.Source), Behind: ch.Behind[i], Name: ch.Added[i]}
	}
	return out
}

// counted reports whether the fixed sources count a new member down.
func (b *build) counted(member string) bool {
	if known, ok := b.counters.Load(member); ok {
		return known.(bool)
	}
	olds, news := b.texts()
	counts := countsFrom(uses(member, news, olds), member)
	b.counters.Store(member, counts)
	return counts
}

// shared tells that new members of two fixes lie in one hole of a struct: where
// each of them is would depend on the other, and the next live patch may be
// without that. Objects hold what this one has put there.
func (b *build) shared(ch layout.Change) string {
	if len(b.req.Fixes) < 2 || len(ch.Added) < 2 {
		return ""
	}
	of := map[string]string{}
	for i, m := range ch.Added {
		who := b.owner(m)
		if before, ok := of[ch.Behind[i]]; ok && before != who {
			return fmt.Sprintf("%s and %s have members in the same padding", before, who)
		}
		of[ch.Behind[i]] = who
	}
	return ""
}

// texts are the files that the fixes change, as they were and as they are.
func (b *build) texts() (olds, news []string) {
	for _, file := range slices.Sorted(maps.Keys(b.sources)) {
		olds = append(olds, string(b.sources[file].Old))
		news = append(news, string(b.sources[file].New))
	}
	return olds, news
}
