// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"bufio"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Symbol is one function or variable that a shipped file defines.
type Symbol struct {
	Name  string
	File  string // the STT_FILE before it: "pk7_smime.c"; "" for global ones, and where none is known
	Addr  uint64 // virtual address in the file
	Size  uint64 // bytes; 0 where the source of symbols does not tell
	Func  bool
	Local bool
	TLS   bool
	IFunc bool
}

// Symbols reads what is known of the file's symbols, in the order of their
// table. SymbolsFrom tells how far they may be believed.
func (s *Shipped) Symbols() ([]Symbol, error) {
	if s.SymbolsFrom == SymbolsList {
		f, err := os.Open(s.SymbolFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, code.New("TS3540", s.SymbolFile, "").With(err)
		}
		syms, err := parseList(io.LimitReader(z, maxList))
		if err != nil {
			return nil, code.New("TS3540", s.SymbolFile, "").With(err)
		}
		return syms, nil
	}
	f, err := elf.Open(s.SymbolFile)
	if err != nil {
		return nil, code.New("TS3540", s.SymbolFile, "").With(err)
	}
	defer f.Close()
	read := f.Symbols
	if s.SymbolsFrom == SymbolsDynamic {
		read = f.DynamicSymbols
	}
	all, err := read()
	if errors.Is(err, elf.ErrNoSymbols) {
		return nil, nil
	}
	if err != nil {
		return nil, code.New("TS3540", s.SymbolFile, "").With(err)
	}
	return definedSymbols(all), nil
}

// sttIFunc is STT_GNU_IFUNC (the gABI's STT_LOOS).
const sttIFunc = elf.SymType(10)

func definedSymbols(all []elf.Symbol) []Symbol {
	var out []Symbol
	file := ""
	for _, e := range all {
		kind, bind := elf.ST_TYPE(e.Info), elf.ST_BIND(e.Info)
		if kind == elf.STT_FILE {
			file = e.Name
			continue
		}
		if e.Name == "" || e.Section == elf.SHN_UNDEF || e.Section >= elf.SHN_LORESERVE {
			continue
		}
		s := Symbol{
			Name: e.Name, Addr: e.Value, Size: e.Size, Local: bind == elf.STB_LOCAL,
			Func: kind == elf.STT_FUNC || kind == sttIFunc, TLS: kind == elf.STT_TLS, IFunc: kind == sttIFunc,
		}
		if !s.Func && !s.TLS && kind != elf.STT_OBJECT && kind != elf.STT_NOTYPE {
			continue // sections
		}
		if s.Local {
			s.File = file
		}
		out = append(out, s)
	}
	return out
}

const (
	maxList = 256 << 20 // of a symbol list, unpacked: MariaDB's has 5 MiB
	maxName = 1 << 20
)

// parseList reads what nm --defined-only prints: address, type and name.
func parseList(r io.Reader) ([]Symbol, error) {
	var out []Symbol
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxName)
	for n := 1; sc.Scan(); n++ {
		addr, rest, ok := strings.Cut(sc.Text(), " ")
		kind, name, ok2 := strings.Cut(rest, " ")
		if !ok || !ok2 || len(kind) != 1 || name == "" {
			return nil, fmt.Errorf("line %d is not of nm: %.60q", n, sc.Text())
		}
		at, err := strconv.ParseUint(addr, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: address %.20q", n, addr)
		}
		s := Symbol{Name: name, Addr: at}
		switch kind {
		case "T", "t", "W", "w":
			s.Func = true
		case "i":
			s.Func, s.IFunc = true, true
		case "V", "v", "u", "D", "d", "B", "b", "R", "r", "G", "g", "S", "s", "C", "c":
		default: // A and N are no places, U is elsewhere
			continue
		}
		s.Local = kind[0] >= 'a' && kind[0] <= 'z' && !strings.Contains("uvwi", kind)
		out = append(out, s)
	}
	return out, sc.Err()
}
