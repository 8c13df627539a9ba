// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// What a compiler read decides what its object can depend on. kbuild keeps
// the list of an original object in its .cmd file (scripts/basic/fixdep.c),
// gcc writes that of a patched one (-MMD).

// maxReads bounds a list: the longest of Debian's kernels has some 2000 files.
const maxReads = 1 << 16

// parseReads reads the files that fixdep names in a .cmd file, clean and below
// source. Files outside of it are left out: no fix changes them.
func parseReads(cmd []byte, source string) ([]string, error) {
	if len(cmd) > maxCmdFile {
		return nil, fmt.Errorf("%d bytes long", len(cmd))
	}
	var reads []string
	listed := false
	for line := range strings.Lines(string(cmd)) {
		line = strings.TrimSuffix(line, "\n")
		name, value, assigns := strings.Cut(line, " := ")
		switch {
		case assigns && strings.HasPrefix(name, "source_"):
			reads = append(reads, below(value, source))
		case strings.HasPrefix(line, "deps_") && strings.HasSuffix(line, ` := \`):
			listed = true
		case listed && line == "":
			return tidyReads(reads)
		case listed:
			file := strings.TrimSpace(strings.TrimSuffix(line, `\`))
			if strings.HasPrefix(file, "$(wildcard ") { // an option of the configuration
				continue
			}
			reads = append(reads, below(file, source))
		}
	}
	if !listed {
		return nil, fmt.Errorf("no list of files in it")
	}
	return tidyReads(reads)
}

// parseRule reads the files of a rule as gcc writes it for make.
func parseRule(rule []byte, source string) ([]string, error) {
	if len(rule) > maxCmdFile {
		return nil, fmt.Errorf("%d bytes long", len(rule))
	}
	_, files, ok := strings.Cut(string(rule), ":")
	if !ok {
		return nil, fmt.Errorf("no rule in it")
	}
	var reads []string
	files = strings.ReplaceAll(files, "\\\n", " ")
	files, _, _ = strings.Cut(files, "\n") // what follows are rules without recipes
	for f := range strings.FieldsSeq(files) {
		if strings.ContainsAny(f, `\$`) {
			return nil, fmt.Errorf("file %.100q: a name that make has to understand", f)
		}
		reads = append(reads, below(f, source))
	}
	return tidyReads(reads)
}

// below returns the clean path of a file below a directory, or "". What a
// command that runs in the directory names relatively is below it as well.
func below(file, dir string) string {
	file = path.Clean(file)
	if !path.IsAbs(file) {
		if file == ".." || strings.HasPrefix(file, "../") {
			return ""
		}
		return file
	}
	rel, ok := strings.CutPrefix(file, path.Clean(filepath.ToSlash(dir))+"/")
	if !ok {
		return ""
	}
	return rel
}

func tidyReads(reads []string) ([]string, error) {
	if len(reads) > maxReads {
		return nil, fmt.Errorf("more than %d files", maxReads)
	}
	slices.Sort(reads)
	reads = slices.Compact(reads)
	if len(reads) > 0 && reads[0] == "" {
		reads = reads[1:]
	}
	return reads, nil
}

// Headers lists what the compilers of original objects read of the target's
// source, but for the sources themselves, sorted. It is not known when one of them was
// neither compiled nor preprocessed before.
func Headers(t *kernel.Target, objs []Object) (files []string, known bool, err error) {
	c, err := newCompilation(t, nil, Options{})
	if err != nil {
		return nil, false, err
	}
	seen := make(map[string]bool)
	for _, o := range objs {
		reads, err := c.originalReads(o)
		if err != nil {
			return nil, false, nil //nolint:nilerr // not known
		}
		for _, f := range reads {
			if path.Ext(f) == ".h" {
				seen[f] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), true, nil
}
