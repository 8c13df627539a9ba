// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"debug/elf"
	"strings"
)

// Banner returns linux_banner without its newline: "Linux version RELEASE
// (user@host) (COMPILER, LINKER) VERSION"; "" when the image has none.
func (m *Image) Banner() string {
	const start = "Linux version "
	for _, data := range m.readOnly() {
		for {
			i := bytes.Index(data, []byte(start))
			if i < 0 {
				break
			}
			data = data[i:]
			// linux_proc_banner is the same text with %s for the parts.
			end := bytes.IndexAny(data[:min(len(data), 4096)], "\n\x00")
			if end > len(start) && data[len(start)] >= '0' && data[len(start)] <= '9' {
				return string(data[:end])
			}
			data = data[len(start):]
		}
	}
	return ""
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
	for _, data := range m.readOnly() {
		_, rest, found := bytes.Cut(data, []byte("IKCFG_ST\x1f\x8b\x08"))
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

// readOnly returns the bytes in which constants are found: .rodata first,
// then every other section that is loaded and not code.
func (m *Image) readOnly() [][]byte {
	var out [][]byte
	for _, s := range m.sections {
		if s.Name == ".rodata" {
			out = append(out, s.Data)
		}
	}
	for _, s := range m.sections {
		if s.Name != ".rodata" && s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_EXECINSTR == 0 && len(s.Data) > 0 {
			out = append(out, s.Data)
		}
	}
	return out
}
