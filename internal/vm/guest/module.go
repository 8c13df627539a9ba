// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// InsertModule loads one .ko file. A module that is loaded already is
// unix.EEXIST.
func InsertModule(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), params, 0); err != nil {
		return fmt.Errorf("load %s: %w", path.Base(file), err)
	}
	return nil
}

// RemoveModule unloads a module and does not wait for its users to leave.
func RemoveModule(name string) error {
	if err := unix.DeleteModule(name, unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("unload %s: %w", name, err)
	}
	return nil
}

// Modprobe loads a stored module by name or alias, after what it needs, and
// returns the names that it loaded now.
func Modprobe(name string) ([]string, error) {
	b, err := os.ReadFile(wire.ModulesPath)
	if err != nil {
		return nil, err
	}
	index, err := wire.ParseModuleIndex(b)
	if err != nil {
		return nil, err
	}
	wanted := find(index, name)
	if len(wanted) == 0 {
		return nil, fmt.Errorf("module %s: not stored in this guest", name)
	}
	byName := make(map[string]wire.StoredModule, len(index.Modules))
	for _, m := range index.Modules {
		byName[m.Name] = m
	}
	var loaded []string
	for _, w := range wanted {
		for _, n := range append(w.Needs, w.Name) {
			err := InsertModule(byName[n].Path, "")
			switch {
			case errors.Is(err, unix.EEXIST):
			case err != nil:
				return loaded, err
			default:
				loaded = append(loaded, n)
			}
		}
	}
	return loaded, nil
}

// find prefers the module of that name; an alias may name several modules,
// which are all loaded, as modprobe does.
func find(index *wire.ModuleIndex, name string) []wire.StoredModule {
	plain := strings.ReplaceAll(name, "-", "_")
	for _, m := range index.Modules {
		if m.Name == plain {
			return []wire.StoredModule{m}
		}
	}
	var hits []wire.StoredModule
	for _, m := range index.Modules {
		for _, a := range m.Aliases {
			ok, err := path.Match(strings.ReplaceAll(a, "-", "_"), plain)
			if ok && err == nil {
				hits = append(hits, m)
				break
			}
		}
	}
	return hits
}

// modprobeMain is the program that the kernel's request_module starts
// (kernel/kmod.c: modprobe -q -- NAME).
func modprobeMain(args []string) int {
	status := 0
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		if _, err := Modprobe(a); err != nil {
			status = 1
		}
	}
	return status
}
