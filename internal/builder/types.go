// SPDX-License-Identifier: Apache-2.0

package builder

import (
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
)

// kernelTypes is the type information of a target and of its modules.
type kernelTypes struct {
	target  *kernel.Target
	kernel  *layout.Types // nil when the kernel has no BTF
	mu      sync.Mutex
	modules map[string]*layout.Types
}

func loadTypes(t *kernel.Target) (*kernelTypes, error) {
	img, err := t.Image()
	if err != nil {
		return nil, err
	}
	k := &kernelTypes{target: t, modules: map[string]*layout.Types{}}
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

// compareTypes finds types that the fix lays out anew, and types that lie in
// the running kernel otherwise than in its source. Objects without BTF (an old
// compiler) are not judged.
func (b *build) compareTypes(c *compared, o kbuild.Object, orig, patched *elfobj.File) error {
	before, after := orig.Section(".BTF"), patched.Section(".BTF")
	if before == nil || after == nil {
		return nil
	}
	was, err := layout.Parse(before.Data)
	if err != nil {
		return fmt.Errorf("types of the original: %w", err)
	}
	is, err := layout.Parse(after.Data)
	if err != nil {
		return fmt.Errorf("types of the patched object: %w", err)
	}
	running, err := b.types.of(o.Module)
	if err != nil {
		return err
	}
	if running != nil && !c.diff.Same() {
		if bad := b.types.mismatches(running, was); len(bad) > 0 {
			return code.New("TS5109", bad[0].Type, bad[0].Detail)
		}
	}
	for _, ch := range layout.Compare(was, is) {
		if slices.ContainsFunc(ch.Added, b.counted) {
			ch = layout.Change{Type: ch.Type, Detail: ch.Detail + ", which counts what is, and has not counted what was before"}
		}
		p := code.New("TS4030", ch.Type, ch.Detail)
		switch known := b.objects[ch.Type]; {
		case ch.Grown > 0 && known.room >= ch.Grown && (len(ch.Locks) == 0 || known.zeroed):
			c.padding = append(c.padding, b.place(code.New("TS8033", ch.Type, fmt.Sprintf("%s; %d bytes belong to each", ch.Detail, known.room)), o))
		case ch.Grown == 0 && len(ch.Locks) > 0 && known.zeroed:
			c.padding = append(c.padding, b.place(code.New("TS8032", ch.Type, strings.Join(ch.Locks, ", ")), o))
		case ch.Padding:
			c.padding = append(c.padding, b.place(code.New("TS8008", ch.Type, ch.Detail), o))
		case b.accepts(p):
			c.padding = append(c.padding, b.place(code.New("TS4030", ch.Type, ch.Detail+"; accepted"), o))
		default:
			c.layouts = append(c.layouts, b.place(p, o))
		}
	}
	return nil
}

// counted reports whether the fixed sources count a new member down.
func (b *build) counted(member string) bool {
	olds, news := b.texts()
	return countsFrom(uses(member, news, olds), member)
}

// texts are the files that the fixes change, as they were and as they are.
func (b *build) texts() (olds, news []string) {
	for _, file := range slices.Sorted(maps.Keys(b.sources)) {
		olds = append(olds, string(b.sources[file].Old))
		news = append(news, string(b.sources[file].New))
	}
	return olds, news
}
