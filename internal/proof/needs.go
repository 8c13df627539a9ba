// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// Needs are what a reproducer wants of its virtual machine. A script says it
// in comments, so that it can be run with nothing but its name:
//
//	# tsugi: disk scratch 2G ext4
type Needs struct {
	Disks                                  []vm.Disk
	Modules, LateModules, Stored, Programs []string
	Memory                                 int // MiB

	// Of a package's: programs that run while the live patch comes and goes, as
	// command lines; one that answers lines; what has to pass first; and C
	// programs that the script holds.
	Serve, Ready []string
	Talk         string
	C            []CProgram
}

// Read adds what the comments of a script say. Flags that were given before
// win where there can be only one value.
func (n *Needs) Read(name, script string) error {
	line := 0
	for text := range strings.Lines(script) {
		line++
		rest, ok := strings.CutPrefix(strings.TrimSpace(text), "#")
		if !ok {
			continue
		}
		rest, ok = strings.CutPrefix(strings.TrimSpace(rest), "tsugi:")
		if !ok {
			continue
		}
		if err := n.add(strings.Fields(rest), script); err != nil {
			return code.New("TS1905", fmt.Sprintf("%s:%d", name, line), err.Error())
		}
	}
	return nil
}

func (n *Needs) add(words []string, script string) error {
	if len(words) < 2 {
		return errors.New("a word and its values are expected")
	}
	values := words[1:]
	switch words[0] {
	case "disk":
		d, err := ParseDisk(values)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(n.Disks, func(have vm.Disk) bool { return have.Name == d.Name }) {
			n.Disks = append(n.Disks, d)
		}
	case "module":
		n.Modules = append(n.Modules, values...)
	case "late-module":
		n.LateModules = append(n.LateModules, values...)
	case "stored-module":
		n.Stored = append(n.Stored, values...)
	case "program":
		n.Programs = append(n.Programs, values...)
	case "memory":
		m, err := strconv.Atoi(values[0])
		if err != nil || m < 64 || m > 1<<20 {
			return fmt.Errorf("memory %q: not 64 to 1048576 MiB", values[0])
		}
		if n.Memory == 0 {
			n.Memory = m
		}
	case "serve":
		n.Serve = append(n.Serve, strings.Join(values, " "))
	case "ready":
		n.Ready = append(n.Ready, strings.Join(values, " "))
	case "talk":
		if n.Talk != "" {
			return errors.New("only one program can answer lines")
		}
		n.Talk = strings.Join(values, " ")
	case "c":
		c, err := cProgram(script, values[0], values[1:])
		if err != nil {
			return err
		}
		n.C = append(n.C, c)
	default:
		return fmt.Errorf("%q is none of disk, module, late-module, stored-module, program, memory, serve, talk, ready, c", words[0])
	}
	return nil
}

// ParseDisk reads name, size and, if there is one, file system of a disk.
func ParseDisk(words []string) (vm.Disk, error) {
	if len(words) < 2 || len(words) > 3 || words[0] == "" {
		return vm.Disk{}, errors.New("a disk has a name, a size and perhaps a file system")
	}
	size, err := parseSize(words[1])
	if err != nil {
		return vm.Disk{}, err
	}
	d := vm.Disk{Name: words[0], Size: size}
	if len(words) == 3 {
		d.FS = words[2]
	}
	return d, nil
}

// parseSize reads "400", "64K", "2G": bytes, in powers of 1024.
func parseSize(s string) (int64, error) {
	digits, shift := s, 0
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
			digits, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q: not a number of bytes, K, M, G or T", s)
	}
	return n << shift, nil
}

// Apply puts the needs into a request.
func (n *Needs) Apply(r *Request) {
	r.Modules, r.LateModules, r.Stored = n.Modules, n.LateModules, n.Stored
	r.Programs, r.Disks, r.Memory = n.Programs, n.Disks, n.Memory
	if p := r.Package; p != nil {
		p.Serve, p.Talk, p.Ready, p.C = n.Serve, n.Talk, n.Ready, n.C
	}
}
