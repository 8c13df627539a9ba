// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Export is an exported symbol as Module.symvers lists it.
type Export struct {
	Module    string // owner's name with underscores, "vmlinux" for the kernel proper
	CRC       uint32 // of the symbol's type (CONFIG_MODVERSIONS), else 0
	GPL       bool   // only for modules with a GPL-compatible licence
	Namespace string // the namespace that users must import, or ""
}

// ParseSymvers reads a Module.symvers file: five tab-separated fields, CRC,
// name, module, kind and namespace (scripts/mod/modpost.c, read_dump); the
// fifth may be missing, as before 5.3.
func ParseSymvers(b []byte) (map[string]Export, error) {
	m := make(map[string]Export)
	err := eachLine(bytes.NewReader(b), func(n int, line string) error {
		if line == "" {
			return nil
		}
		f := strings.Split(line, "\t")
		if len(f) < 4 || len(f) > 5 || f[1] == "" || f[2] == "" {
			return fmt.Errorf("line %d: %d fields", n, len(f))
		}
		crc, err := strconv.ParseUint(f[0], 0, 32)
		if err != nil {
			return fmt.Errorf("line %d: CRC %.20q", n, f[0])
		}
		if !strings.HasPrefix(f[3], "EXPORT_SYMBOL") {
			return fmt.Errorf("line %d: kind %.40q", n, f[3])
		}
		if len(m) >= maxExports {
			return fmt.Errorf("line %d: more than %d symbols", n, maxExports)
		}
		e := Export{Module: ModuleName(f[2]), CRC: uint32(crc), GPL: strings.Contains(f[3], "GPL")}
		if len(f) == 5 {
			e.Namespace = f[4]
		}
		m[f[1]] = e
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("symbol versions (Module.symvers): %w", err)
	}
	return m, nil
}

// ModuleName turns the path of a module ("fs/nls/nls_cp437.ko.xz",
// "drivers/md/dm-mod") into the name that the kernel knows it by.
func ModuleName(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, ext := range moduleExtensions {
		if s, ok := strings.CutSuffix(name, ext); ok {
			name = s
			break
		}
	}
	return strings.NewReplacer("-", "_", ",", "_").Replace(name)
}

// moduleExtensions are the names that module files end in (CONFIG_MODULE_COMPRESS_*).
var moduleExtensions = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}
