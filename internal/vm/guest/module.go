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
// (kernel/module/kmod.c: modprobe -q -- NAME), and scripts too: it loads
// modules by name or alias, or unloads them with -r.
func modprobeMain(args []string) int {
	status, quiet, remove := 0, false, false
	for _, a := range args {
		var err error
		switch {
		case a == "-q":
			quiet = true
		case a == "-r":
			remove = true
		case strings.HasPrefix(a, "-"):
		case remove:
			err = RemoveModule(strings.ReplaceAll(a, "-", "_"))
		default:
			_, err = Modprobe(a)
		}
		if err != nil {
			status = 1
			if !quiet {
				fmt.Fprintln(os.Stderr, "modprobe:", err)
			}
		}
	}
	return status
}
