// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// ModuleSource finds a kernel module's file by the module's name, with
// underscores. The file may be compressed as the kernel build does it: .gz,
// .xz or .zst.
type ModuleSource interface {
	ModulePath(name string) (string, bool)
}

// module is what a .ko file says of itself in .modinfo.
type module struct {
	name    string
	data    []byte
	depends []string // module names, all required
	soft    []string // softdep pre: names or aliases, wanted when there
	aliases []string
}

// maxModule limits what a compressed module may grow to.
const maxModule = 256 << 20

// readModule reads a module file and decompresses it.
func readModule(file string) (*module, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if b, err = decompress(b); err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	m, err := parseModule(b)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", file, err)
	}
	return m, nil
}

// decompress tells the format by its magic number, as the file's name may
// say nothing.
func decompress(b []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(bytes.NewReader(b))
	case bytes.HasPrefix(b, []byte("\xfd7zXZ\x00")):
		r, err = xz.NewReader(bytes.NewReader(b), xz.DefaultDictMax)
	case bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
			r = d
		}
	default:
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(out) > maxModule {
		err = fmt.Errorf("more than %d bytes unpacked", maxModule)
	}
	return out, err
}

// parseModule reads .modinfo: NUL-terminated key=value strings
// (include/linux/moduleparam.h).
func parseModule(b []byte) (*module, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("not an ELF object: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no .modinfo section")
	}
	if s.Size > uint64(len(b)) {
		return nil, errors.New("section .modinfo: larger than the file")
	}
	info, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("section .modinfo: %w", err)
	}
	m := &module{data: b}
	for kv := range bytes.SplitSeq(info, []byte{0}) {
		key, val, _ := strings.Cut(string(kv), "=")
		switch key {
		case "name":
			m.name = underscores(val)
		case "depends":
			for d := range strings.SplitSeq(val, ",") {
				if d != "" {
					m.depends = append(m.depends, underscores(d))
				}
			}
		case "softdep":
			m.soft = append(m.soft, softBefore(val)...)
		case "alias":
			m.aliases = append(m.aliases, val)
		}
	}
	if m.name == "" {
		return nil, errors.New("section .modinfo: no name")
	}
	return m, nil
}

// softBefore returns the words after "pre:" and before "post:".
func softBefore(s string) []string {
	var pre []string
	on := false
	for w := range strings.FieldsSeq(s) {
		switch w {
		case "pre:":
			on = true
		case "post:":
			on = false
		default:
			if on {
				pre = append(pre, w)
			}
		}
	}
	return pre
}

func underscores(s string) string { return strings.ReplaceAll(s, "-", "_") }

// resolver walks dependencies over a module source.
type resolver struct {
	src    ModuleSource
	loaded map[string]*module
}

// order returns the modules that name needs and then name itself, in an order
// in which they can be loaded.
func (r *resolver) order(name string) ([]*module, error) {
	var out []*module
	state := map[string]int{} // 1 under way, 2 done
	var visit func(name, by string) error
	visit = func(name, by string) error {
		switch state[name] {
		case 1:
			return problem("TS6005", name, "it depends on itself, by way of "+by)
		case 2:
			return nil
		}
		state[name] = 1
		m, err := r.read(name, by)
		if err != nil {
			return err
		}
		for _, s := range m.soft {
			if p, ok := r.softTarget(s); ok && state[p] != 1 {
				if err := visit(p, name); err != nil {
					return err
				}
			}
		}
		for _, d := range m.depends {
			if err := visit(d, name); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, m)
		return nil
	}
	if err := visit(underscores(name), ""); err != nil {
		return nil, err
	}
	return out, nil
}

func (r *resolver) read(name, by string) (*module, error) {
	if m, ok := r.loaded[name]; ok {
		return m, nil
	}
	why := "the target has no such module"
	if by != "" {
		why += "; " + by + " needs it"
	}
	file, ok := r.src.ModulePath(name)
	if !ok {
		return nil, problem("TS6005", name, why)
	}
	m, err := readModule(file)
	if err != nil {
		return nil, problem("TS6005", name, "").With(err)
	}
	if m.name != name {
		return nil, problem("TS6005", name, fmt.Sprintf("%s says that it is %s", file, m.name))
	}
	r.loaded[name] = m
	return m, nil
}

// softTarget finds the module of a soft dependency. Those are names or
// aliases; the kernel's crypto aliases are "crypto-X", and the implementation
// that runs on every CPU is called X_generic.
func (r *resolver) softTarget(s string) (string, bool) {
	s = underscores(s)
	bare := strings.TrimPrefix(s, "crypto_")
	for _, n := range []string{s, bare + "_generic", bare} {
		if _, ok := r.src.ModulePath(n); ok {
			return n, true
		}
	}
	return "", false
}

// addModules stores modules, unpacked, and the index that the guest loads by.
func (m *image) addModules(cfg *Config) error {
	if len(cfg.Modules) == 0 {
		return nil
	}
	if cfg.ModuleSource == nil {
		return problem("TS6005", cfg.Modules[0], "no source of modules was given")
	}
	r := &resolver{src: cfg.ModuleSource, loaded: map[string]*module{}}
	var index wire.ModuleIndex
	stored := map[string]bool{}
	for _, name := range cfg.Modules {
		order, err := r.order(name)
		if err != nil {
			return err
		}
		for _, mod := range order {
			if stored[mod.name] {
				continue
			}
			stored[mod.name] = true
			needs, err := r.order(mod.name)
			if err != nil {
				return err
			}
			names := make([]string, 0, len(needs))
			for _, n := range needs[:len(needs)-1] {
				names = append(names, n.name)
			}
			p := path.Join(wire.ModuleDir, mod.name+".ko")
			m.add(File{Path: p, Data: mod.data})
			index.Modules = append(index.Modules, wire.StoredModule{
				Name: mod.name, Path: p, Needs: names, Aliases: slices.Clone(mod.aliases),
			})
		}
	}
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	m.add(File{Path: wire.ModulesPath, Data: b})
	return nil
}
