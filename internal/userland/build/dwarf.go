// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// shapes says of the types of an object, by their full name, how they lie in
// memory: members and bases with their places, virtual functions, enumerators.
// It reads DWARF, for C++, of which compilers write no BTF.
func shapes(f *elfobj.File) (map[string]string, error) {
	if f.Section(".debug_info") == nil {
		return nil, nil
	}
	data, err := f.Bytes()
	if err != nil {
		return nil, err
	}
	e, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	defer e.Close()
	d, err := e.DWARF()
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	w := &shaper{d: d, types: map[dwarf.Offset]string{}, out: map[string]string{}}
	r := d.Reader()
	for {
		entry, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("types: %w", err)
		}
		if entry == nil {
			return w.out, nil
		}
		if entry.Children {
			if err := w.scope(r, entry, ""); err != nil {
				return nil, fmt.Errorf("types: %w", err)
			}
		}
	}
}

type shaper struct {
	d     *dwarf.Data
	types map[dwarf.Offset]string
	out   map[string]string
}

// scope reads what lies in an entry: types of a unit, a namespace, a class, a
// function.
func (w *shaper) scope(r *dwarf.Reader, in *dwarf.Entry, prefix string) error {
	name, _ := in.Val(dwarf.AttrName).(string)
	full := prefix
	if in.Tag != dwarf.TagCompileUnit && in.Tag != dwarf.TagTypeUnit {
		full = prefix + name + "::"
	}
	_, declared := in.Val(dwarf.AttrDeclaration).(bool)
	var shape strings.Builder
	fmt.Fprintf(&shape, "%v bytes", in.Val(dwarf.AttrByteSize))
	for {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil || e.Tag == 0 {
			break
		}
		w.part(&shape, e)
		if e.Children {
			if err := w.scope(r, e, full); err != nil {
				return err
			}
		}
	}
	switch in.Tag {
	case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType:
		if name != "" && !declared {
			w.out[strings.TrimSuffix(full, "::")] = shape.String()
		}
	}
	return nil
}

// part adds what one child says of its type's layout.
func (w *shaper) part(shape *strings.Builder, e *dwarf.Entry) {
	name, _ := e.Val(dwarf.AttrName).(string)
	switch e.Tag {
	case dwarf.TagMember:
		if e.Val(dwarf.AttrExternal) == nil { // else static
			fmt.Fprintf(shape, "; %s at %v bits %v %v is %s", name, e.Val(dwarf.AttrDataMemberLoc), e.Val(dwarf.AttrBitSize), e.Val(dwarf.AttrDataBitOffset), w.typeOf(e, 0))
		}
	case dwarf.TagInheritance:
		fmt.Fprintf(shape, "; base at %v is %s", e.Val(dwarf.AttrDataMemberLoc), w.typeOf(e, 0))
	case dwarf.TagSubprogram:
		if v := e.Val(dwarf.AttrVirtuality); v != nil {
			fmt.Fprintf(shape, "; virtual %s %v", name, e.Val(dwarf.AttrVtableElemLoc))
		}
	case dwarf.TagEnumerator:
		fmt.Fprintf(shape, "; %s = %v", name, e.Val(dwarf.AttrConstValue))
	}
}

// typeOf names the type of an entry, with its size.
func (w *shaper) typeOf(e *dwarf.Entry, depth int) string {
	off, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok || depth > 32 {
		return "void"
	}
	if s, known := w.types[off]; known {
		return s
	}
	r := w.d.Reader()
	r.Seek(off)
	t, err := r.Next()
	if err != nil || t == nil {
		return "?"
	}
	name, _ := t.Val(dwarf.AttrName).(string)
	s := ""
	switch t.Tag {
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		s = "*" // what it leads to is judged by itself
	case dwarf.TagTypedef, dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
		s = w.typeOf(t, depth+1)
	case dwarf.TagArrayType:
		s = w.typeOf(t, depth+1)
		for t.Children {
			c, err := r.Next()
			if err != nil || c == nil || c.Tag == 0 {
				break
			}
			s += fmt.Sprintf("[%v %v]", c.Val(dwarf.AttrUpperBound), c.Val(dwarf.AttrCount))
		}
	default:
		s = fmt.Sprintf("%v %s %v", t.Tag, name, t.Val(dwarf.AttrByteSize))
	}
	w.types[off] = s
	return s
}

// reshaped lists the types that both sides have in another shape.
func reshaped(was, is map[string]string) (names []string, detail func(string) string) {
	for _, n := range slices.Sorted(maps.Keys(was)) {
		if now, ok := is[n]; ok && now != was[n] {
			names = append(names, n)
		}
	}
	return names, func(n string) string {
		a, b := strings.Split(was[n], "; "), strings.Split(is[n], "; ")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				return fmt.Sprintf("%s instead of %s", b[i], a[i])
			}
		}
		return fmt.Sprintf("%d parts instead of %d", len(b), len(a))
	}
}
