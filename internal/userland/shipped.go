// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/hostinfo"
)

// outline is what tells one linked ELF file from another.
type outline struct {
	buildID string // hex, "" for none
	soname  string
}

// errNotLinked tells that a file is no ELF file for x86-64 with code in it.
var errNotLinked = errors.New("not a linked ELF file of x86-64 with code")

// readOutline reads a linked ELF file; errNotLinked for any other file.
func readOutline(path string) (outline, error) {
	f, err := os.Open(path)
	if err != nil {
		return outline{}, err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != elf.ELFMAG {
		return outline{}, errNotLinked
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return outline{}, errNotLinked // an ELF file of another world
	}
	code := slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 })
	if !code || e.Machine != elf.EM_X86_64 || e.Class != elf.ELFCLASS64 || e.Type != elf.ET_DYN && e.Type != elf.ET_EXEC {
		return outline{}, errNotLinked
	}
	var o outline
	if s := e.Section(".note.gnu.build-id"); s != nil && s.Size <= 4096 {
		note, err := s.Data()
		if err != nil {
			return outline{}, fmt.Errorf("%s: %w", path, err)
		}
		if o.buildID, err = hostinfo.ParseBuildID(note); err != nil {
			return outline{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	if e.Section(".dynamic") != nil {
		names, err := e.DynString(elf.DT_SONAME)
		if err != nil {
			return outline{}, fmt.Errorf("%s: %w", path, err)
		}
		if len(names) > 0 {
			o.soname = names[0]
		}
	}
	return o, nil
}

// findShipped lists the linked ELF files with a build-id below the directory
// that packages were unpacked to. The others can't be told in a process.
func findShipped(dir string) ([]Shipped, error) {
	var all []Shipped
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		o, err := readOutline(p)
		if errors.Is(err, errNotLinked) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(o.buildID) < 16 { // none, or nothing that tells files apart
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		s := Shipped{Path: "/" + filepath.ToSlash(rel), File: p, BuildID: o.buildID, Name: o.soname}
		if s.Name == "" {
			s.Name = path.Base(s.Path)
		}
		if s.Size, s.SHA256, err = digest(p); err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	slices.SortFunc(all, func(a, b Shipped) int { return strings.Compare(a.Path, b.Path) })
	return all, err
}

func digest(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

// matchRebuilt finds for each shipped file what the build linked in its place:
// the file with its build-id, else the one with its name.
func matchRebuilt(ctx context.Context, files []Shipped, b built, c *Commands) error {
	type candidate struct {
		host, inside string
		outline
	}
	var have []candidate
	seen := make(map[string]bool)
	for _, l := range slices.Backward(c.Links) {
		rest, ok := strings.CutPrefix(l.Output, b.inside+"/")
		if !ok || seen[l.Output] || strings.HasSuffix(l.Output, ".a") {
			continue
		}
		seen[l.Output] = true
		host := filepath.Join(b.tree(), rest)
		o, err := readOutline(host)
		if errors.Is(err, errNotLinked) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		have = append(have, candidate{host, l.Output, o})
	}
	for i := range files {
		f := &files[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		at := slices.IndexFunc(have, func(c candidate) bool { return c.buildID == f.BuildID })
		if at < 0 {
			at = slices.IndexFunc(have, func(c candidate) bool {
				return c.soname == f.Name && c.soname != "" || path.Base(c.inside) == path.Base(f.Path)
			})
		}
		if at < 0 {
			f.Differs = "it was not built again"
			continue
		}
		f.Rebuilt, f.RebuiltInside = have[at].host, have[at].inside
		var err error
		if f.Differs, err = compareLoaded(f.File, f.Rebuilt); err != nil {
			return err
		}
		f.Identical = f.Differs == ""
		if f.Identical && have[at].buildID != f.BuildID {
			f.Differs = "in its build-id alone, which covers debug information too"
		}
	}
	return nil
}

// maxSegment bounds what is read of a segment: mariadbd's largest has 20 MiB.
const maxSegment = 1 << 30

// compareLoaded says how what a process maps of two files differs; "" when it
// does not. Two things are not looked at: the section table's place and size in
// the ELF header, which strip changes, and the build-id, which is a digest of
// what is not mapped too.
func compareLoaded(a, b string) (string, error) {
	x, err := elf.Open(a)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a, err)
	}
	defer x.Close()
	y, err := elf.Open(b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", b, err)
	}
	defer y.Close()
	loads := func(f *elf.File) []*elf.Prog {
		return slices.DeleteFunc(slices.Clone(f.Progs), func(p *elf.Prog) bool { return p.Type != elf.PT_LOAD })
	}
	lx, ly := loads(x), loads(y)
	if len(lx) != len(ly) {
		return fmt.Sprintf("it has %d segments, shipped are %d", len(ly), len(lx)), nil
	}
	for i, p := range lx {
		q := ly[i]
		if p.ProgHeader != q.ProgHeader {
			return fmt.Sprintf("segment %d lies at %#x with %#x bytes, as shipped at %#x with %#x", i, q.Vaddr, q.Filesz, p.Vaddr, p.Filesz), nil
		}
		if p.Filesz > maxSegment {
			return "", fmt.Errorf("%s: segment %d has %d bytes", a, i, p.Filesz)
		}
		bx, err := io.ReadAll(p.Open())
		if err != nil {
			return "", fmt.Errorf("%s: segment %d: %w", a, i, err)
		}
		by, err := io.ReadAll(q.Open())
		if err != nil {
			return "", fmt.Errorf("%s: segment %d: %w", b, i, err)
		}
		if p.Off == 0 && len(bx) >= 64 && len(by) >= 64 {
			for _, r := range [][2]int{{0x28, 0x30}, {0x3c, 0x40}} { // e_shoff; e_shnum, e_shstrndx
				clear(bx[r[0]:r[1]])
				clear(by[r[0]:r[1]])
			}
		}
		for _, e := range []struct {
			file    *elf.File
			segment []byte
		}{{x, bx}, {y, by}} {
			if note := e.file.Section(".note.gnu.build-id"); note != nil && note.Addr >= p.Vaddr && note.Size <= uint64(len(e.segment)) &&
				note.Addr-p.Vaddr <= uint64(len(e.segment))-note.Size && note.Size > 16 {
				clear(e.segment[note.Addr-p.Vaddr+16:][:note.Size-16]) // behind the note's header and name
			}
		}
		if !bytes.Equal(bx, by) {
			n, first := 0, -1
			for j := range min(len(bx), len(by)) {
				if bx[j] != by[j] {
					if n++; first < 0 {
						first = j
					}
				}
			}
			return fmt.Sprintf("%d bytes differ in segment %d, the first at %#x", n, i, p.Vaddr+uint64(max(first, 0))), nil
		}
	}
	return "", nil
}
