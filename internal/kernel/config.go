// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Config is a kernel configuration by full option name. Values are as
// written: "y", "m", a number, or a string without its quotes. An option
// that is not set is not in the map.
type Config map[string]string

// Bounds of what is read; Debian's files have about 10,000 lines.
const (
	maxLine    = 64 << 10
	maxOptions = 1 << 17
	maxExports = 1 << 20
)

// ParseConfig reads a .config file.
func ParseConfig(b []byte) (Config, error) {
	c := make(Config)
	err := eachLine(bytes.NewReader(b), func(n int, line string) error {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			return nil
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !isOption(name) {
			return fmt.Errorf("line %d is not an option: %.60q", n, line)
		}
		if len(c) >= maxOptions {
			return fmt.Errorf("line %d: more than %d options", n, maxOptions)
		}
		c[name] = unquote(value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// Has tells whether an option is y or m.
func (c Config) Has(option string) bool { v := c[option]; return v == "y" || v == "m" }

// Difference is one option that two configurations disagree on. An empty
// value means that the option is not set.
type Difference struct{ Option, Want, Got string }

// Compare lists the options that differ, by name.
func (c Config) Compare(got Config) []Difference {
	var d []Difference
	all := maps.Clone(c)
	maps.Copy(all, got)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if c[k] != got[k] {
			d = append(d, Difference{k, c[k], got[k]})
		}
	}
	return d
}

func isOption(s string) bool {
	rest, ok := strings.CutPrefix(s, "CONFIG_")
	return ok && rest != "" && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// unquote undoes the quoting of scripts/kconfig/symbol.c: \" and \\ only.
func unquote(v string) string {
	if len(v) < 2 || v[0] != '"' || v[len(v)-1] != '"' {
		return v
	}
	v = v[1 : len(v)-1]
	if !strings.Contains(v, `\`) {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

func eachLine(r io.Reader, f func(n int, line string) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4096), maxLine)
	for n := 1; sc.Scan(); n++ {
		if err := f(n, sc.Text()); err != nil {
			return err
		}
	}
	return sc.Err()
}
