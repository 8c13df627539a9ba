// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"
	"strings"
)

// Banner returns linux_banner without its newline, "Linux version RELEASE
// (user@host) (COMPILER, LINKER) VERSION", as /proc/version shows it; "" when
// the image has none. Since 6.1 an image holds two: the link replaces a first,
// weak one that lacks the build's number. kallsyms tells which one is used.
func (m *Image) Banner() string {
	found := m.banners()
	if len(found) > 1 {
		if syms, err := m.Kallsyms(); err == nil {
			for _, s := range syms {
				if text := found[s.Addr]; text != "" && s.Name == "linux_banner" {
					return text
				}
			}
		}
	}
	best := ""
	for _, text := range found {
		// Without kallsyms the longer one, which has what the other lacks.
		if len(text) > len(best) || len(text) == len(best) && text < best {
			best = text
		}
	}
	return best
}

func (m *Image) banners() map[uint64]string {
	const start = "Linux version "
	found := map[uint64]string{}
	for _, s := range m.readOnly() {
		for pos := 0; ; pos += len(start) {
			i := bytes.Index(s.Data[pos:], []byte(start))
			if i < 0 {
				break
			}
			pos += i
			text := s.Data[pos:min(len(s.Data), pos+4096)]
			end := bytes.IndexAny(text, "\n\x00")
			// linux_proc_banner is the same text with %s for the parts.
			if end > len(start) && text[len(start)] >= '0' && text[len(start)] <= '9' {
				found[s.Addr+uint64(pos)] = string(text[:end])
			}
		}
	}
	return found
}

// Release returns the kernel release that the banner names, as uname -r
// prints it; "" when there is no banner.
func (m *Image) Release() string {
	f := strings.Fields(m.Banner())
	if len(f) < 3 {
		return ""
	}
	return f[2]
}

// Config returns the text of the embedded .config (CONFIG_IKCONFIG). ok is
// false when the kernel has none, as most distributions' kernels.
func (m *Image) Config() (config []byte, ok bool) {
	for _, s := range m.readOnly() {
		_, rest, found := bytes.Cut(s.Data, []byte("IKCFG_ST\x1f\x8b\x08"))
		if !found {
			continue
		}
		i := bytes.Index(rest, []byte("IKCFG_ED"))
		if i < 0 {
			continue
		}
		gz := append([]byte("\x1f\x8b\x08"), rest[:i]...)
		if text, err := inflate("gzip", gz, -1, 16<<20); err == nil {
			return text, true
		}
	}
	return nil, false
}

// readOnly returns the sections in which constants are found: .rodata first,
// then every other that is loaded and not code.
func (m *Image) readOnly() []Section {
	var out []Section
	for _, s := range m.sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_EXECINSTR == 0 && len(s.Data) > 0 {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Section) int {
		return cmp.Compare(rank(a.Name), rank(b.Name))
	})
	return out
}

func rank(section string) int {
	if section == ".rodata" {
		return 0
	}
	return 1
}
