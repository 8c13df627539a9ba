// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/tsugi-project/tsugi/internal/dso"
)

// The dynamic loader shows its list of objects to debuggers: DT_DEBUG of the
// program leads to a struct r_debug, that to a list of struct link_map, and
// since glibc 2.35 to one more r_debug per namespace of dlmopen(3). The form is
// that of <link.h>, which no loader can change.
const (
	maxLoaded     = 4096
	maxNamespaces = 64
	maxLoadedName = 4096
)

// errLoading says that the loader is at work, and that a moment later all may
// be in its place.
var errLoading = errors.New("the loader has not finished")

// loaded is one entry of the loader's list, with its ELF file.
type loaded struct {
	file *dso.File
	name string // what DT_NEEDED of others calls it
}

// namespace is one list of the loader's, in its order.
type namespace []*loaded

// loader reads the lists of the process that has these files mapped. It returns
// none for a static program, and errLoading when the lists are being changed
// or are not there yet.
func loader(mem io.ReaderAt, files []*dso.File) ([]namespace, error) {
	interpreted := false
	for _, f := range files {
		interpreted = interpreted || f.Interp != ""
		at, ok := debugAddress(f)
		if !ok || at == 0 {
			continue
		}
		lists, err := debugLists(mem, at, files)
		if err == nil && (len(lists) == 0 || len(lists[0]) == 0 || lists[0][0].file != f) {
			err = errLoading // the program is the first of the first list
		}
		return lists, err
	}
	if interpreted {
		return nil, errLoading
	}
	return nil, nil
}

// debugAddress is the value of DT_DEBUG.
func debugAddress(f *dso.File) (uint64, bool) {
	raw, err := f.Bytes(f.Dynamic.Start, min(f.Dynamic.Size, 64<<10)&^15)
	if err != nil {
		return 0, false
	}
	for ; len(raw) > 0; raw = raw[16:] {
		switch elf.DynTag(int64(binary.LittleEndian.Uint64(raw))) {
		case elf.DT_NULL:
			return 0, false
		case elf.DT_DEBUG:
			return binary.LittleEndian.Uint64(raw[8:]), true
		}
	}
	return 0, false
}

func debugLists(mem io.ReaderAt, at uint64, files []*dso.File) ([]namespace, error) {
	var lists []namespace
	for at != 0 {
		if len(lists) == maxNamespaces {
			return nil, errors.New("the loader's lists have no end")
		}
		var raw [48]byte // version int, map *link_map, brk, state int, ldbase; next *r_debug from version 2
		if err := readFull(mem, raw[:40], at); err != nil {
			return nil, fmt.Errorf("r_debug: %w", err)
		}
		version := int32(binary.LittleEndian.Uint32(raw[:]))
		first := binary.LittleEndian.Uint64(raw[8:])
		if version < 1 || binary.LittleEndian.Uint32(raw[24:]) != 0 || first == 0 && len(lists) == 0 {
			return nil, errLoading // r_state is not RT_CONSISTENT, or it is not filled
		}
		list, err := linkMaps(mem, first, files)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
		if version < 2 {
			break
		}
		if err := readFull(mem, raw[40:], at+40); err != nil {
			return nil, fmt.Errorf("r_debug: %w", err)
		}
		at = binary.LittleEndian.Uint64(raw[40:])
	}
	return lists, nil
}

func linkMaps(mem io.ReaderAt, at uint64, files []*dso.File) (namespace, error) {
	byDynamic := make(map[uint64]*dso.File, len(files))
	for _, f := range files {
		if f.Dynamic.Size != 0 {
			byDynamic[f.Dynamic.Start+f.Bias] = f
		}
	}
	var list namespace
	for n := 0; at != 0; n++ {
		if n == maxLoaded {
			return nil, errors.New("the loader's list has no end")
		}
		var raw [32]byte // l_addr, l_name, l_ld, l_next
		if err := readFull(mem, raw[:], at); err != nil {
			return nil, fmt.Errorf("link_map: %w", err)
		}
		at = binary.LittleEndian.Uint64(raw[24:])
		f, ok := byDynamic[binary.LittleEndian.Uint64(raw[16:])]
		if !ok {
			continue // the vDSO: it is listed, and never searched
		}
		l := &loaded{file: f, name: f.Soname}
		if l.name == "" {
			l.name = path.Base(stringAt(mem, binary.LittleEndian.Uint64(raw[8:])))
		}
		list = append(list, l)
	}
	return list, nil
}

func stringAt(mem io.ReaderAt, at uint64) string {
	var s []byte
	for len(s) < maxLoadedName {
		var raw [64]byte // stays within a page when it begins at a multiple of its size
		piece := raw[:64-at%64]
		if readFull(mem, piece, at) != nil {
			break
		}
		if i := bytes.IndexByte(piece, 0); i >= 0 {
			return string(append(s, piece[:i]...))
		}
		s, at = append(s, piece...), at+uint64(len(piece))
	}
	return ""
}

func readFull(mem io.ReaderAt, p []byte, at uint64) error {
	if at >= addressEnd {
		return fmt.Errorf("%#x is no address of a process", at)
	}
	n, err := mem.ReadAt(p, int64(at))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at %#x: %w", len(p), at, err)
}

// find gives the namespace that a file is in.
func findLoaded(lists []namespace, f *dso.File) (namespace, *loaded) {
	for _, list := range lists {
		for _, l := range list {
			if l.file == f {
				return list, l
			}
		}
	}
	return nil, nil
}

// scope is where the loader looks for the symbols that one object imports.
type scope struct {
	// sure are the objects that are searched, in that order: the program, what
	// it was started with, and for an object that came by dlopen(3) that object
	// and what it needs.
	sure []*loaded
	// global is how many of sure come first wherever the others are searched.
	global int
	// maybe are others that came by dlopen(3). Those that were opened with
	// RTLD_GLOBAL are searched too, which nobody outside can see.
	maybe []*loaded
	// vdso is the kernel's own code in the process, which resolvers of IFUNCs may
	// choose: time and gettimeofday of glibc.
	vdso span
}

// scopeOf follows what the loader does: the first list of all holds the program,
// libraries preloaded, and then the needed ones breadth first, so that it is
// searched in the list's order as far as what the program needs goes.
func scopeOf(list namespace, of *loaded) scope {
	byName := make(map[string]int, len(list))
	for i, l := range list {
		if _, ok := byName[l.name]; !ok {
			byName[l.name] = i
		}
	}
	last, started := 0, closure(list, byName, 0)
	for _, i := range started {
		last = max(last, i)
	}
	s := scope{sure: append([]*loaded(nil), list[:min(last+1, len(list))]...)}
	s.global = len(s.sure)
	in := make(map[*loaded]bool, len(list))
	for _, l := range s.sure {
		in[l] = true
	}
	for i, l := range list {
		if l != of || in[of] {
			continue
		}
		for _, k := range closure(list, byName, i) {
			if !in[list[k]] {
				in[list[k]] = true
				s.sure = append(s.sure, list[k])
			}
		}
	}
	for _, l := range list {
		if !in[l] {
			s.maybe = append(s.maybe, l)
		}
	}
	return s
}

// closure is an object and all that it needs, breadth first, as indexes.
func closure(list namespace, byName map[string]int, start int) []int {
	if start >= len(list) {
		return nil
	}
	order, seen := []int{start}, map[int]bool{start: true}
	for at := 0; at < len(order); at++ {
		for _, needed := range list[order[at]].file.Needed {
			i, ok := byName[needed]
			if !ok {
				i, ok = byName[path.Base(needed)]
			}
			if ok && !seen[i] {
				seen[i] = true
				order = append(order, i)
			}
		}
	}
	return order
}
