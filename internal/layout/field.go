// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// FieldKind is what a field holds, as far as an edit of it is concerned.
type FieldKind uint8

const (
	FieldOther FieldKind = iota
	FieldFunction
	FieldPointer // to data
	FieldBool
	FieldNumber
)

// Field is the smallest named thing that lies at one place of a variable.
type Field struct {
	Off, Size uint64 // from the variable's start
	Kind      FieldKind
	// Of is the innermost named struct that the field is part of, "" for a
	// variable that is no struct.
	Of string
	// Name is the path from the variable: ".funcs[2].open", "" for itself.
	Name string
	// Operations: a struct around it holds pointers to functions.
	Operations bool
}

// Field tells what lies at an offset of a variable of an object: of a file
// scope variable, since compilers describe no others. It is false where types
// don't say, as in padding and in bitfields.
func (t *Types) Field(variable string, off uint64) (Field, bool) {
	var v *btf.Var
	if err := t.spec.TypeByName(variable, &v); err != nil {
		return Field{}, false
	}
	f := Field{}
	typ := btf.UnderlyingType(v.Type)
	for range 32 {
		size, err := btf.Sizeof(typ)
		if err != nil || off < f.Off || off-f.Off >= uint64(size) {
			return Field{}, false
		}
		f.Size = uint64(size)
		switch c := typ.(type) {
		case *btf.Array:
			elem, err := btf.Sizeof(c.Type)
			if err != nil || elem == 0 {
				return Field{}, false
			}
			n := (off - f.Off) / uint64(elem)
			f.Off += n * uint64(elem)
			f.Name += fmt.Sprintf("[%d]", n)
			typ = btf.UnderlyingType(c.Type)
		case *btf.Struct:
			if c.Name != "" {
				f.Of = c.Name
			}
			f.Operations = f.Operations || holdsFunctions(c)
			m, ok := memberAt(c, off-f.Off)
			if !ok {
				return Field{}, false
			}
			f.Off += uint64(m.Offset.Bytes())
			if m.Name != "" {
				f.Name += "." + m.Name
			}
			typ = btf.UnderlyingType(m.Type)
		case *btf.Union:
			return f, true // who reads which member is not told
		case *btf.Pointer:
			f.Kind = FieldPointer
			if _, ok := btf.UnderlyingType(c.Target).(*btf.FuncProto); ok {
				f.Kind = FieldFunction
			}
			return f, true
		case *btf.Int:
			f.Kind = FieldNumber
			if c.Encoding == btf.Bool || c.Name == "_Bool" {
				f.Kind = FieldBool
			}
			return f, true
		case *btf.Enum:
			f.Kind = FieldNumber
			return f, true
		default:
			return f, true
		}
	}
	return Field{}, false
}

// memberAt returns the member of a struct that covers an offset. Bitfields
// share their bytes and are not told apart.
func memberAt(s *btf.Struct, off uint64) (btf.Member, bool) {
	for _, m := range s.Members {
		size, err := btf.Sizeof(m.Type)
		if err != nil || m.BitfieldSize != 0 {
			continue
		}
		if at := uint64(m.Offset.Bytes()); off >= at && off-at < uint64(size) {
			return m, true
		}
	}
	return btf.Member{}, false
}

func holdsFunctions(s *btf.Struct) bool {
	for _, m := range s.Members {
		if p, ok := btf.UnderlyingType(m.Type).(*btf.Pointer); ok {
			if _, ok := btf.UnderlyingType(p.Target).(*btf.FuncProto); ok {
				return true
			}
		}
	}
	return false
}
