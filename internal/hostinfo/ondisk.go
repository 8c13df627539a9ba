// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// ModulesOnDisk returns the build-ids of the files that modprobe would load
// modules from, by name, as modules.dep of a kernel release lists them. A
// module that has no file, a compressed one or one without a build-id is left
// out: nothing is known about it.
func ModulesOnDisk(root, release string, names []string) map[string]string {
	r := &Reader{Root: root}
	out := map[string]string{}
	if len(names) == 0 || release == "" || strings.ContainsAny(release, "/\x00") {
		return out
	}
	for _, dir := range []string{"lib/modules/" + release, "usr/lib/modules/" + release} {
		dep, err := r.bytes(dir+"/modules.dep", maxLarge)
		if err != nil {
			continue
		}
		for file, name := range moduleFiles(dep) {
			if !slices.Contains(names, name) {
				continue
			}
			if id := fileBuildID(r.path(path.Join(dir, file))); id != "" {
				out[name] = id
			}
		}
		break
	}
	return out
}

// moduleFiles reads modules.dep, "FILE: FILE…" with paths relative to its
// directory, and gives each plain module file with the module's name.
func moduleFiles(dep []byte) map[string]string {
	out := map[string]string{}
	for line := range bytes.Lines(dep) {
		file, _, ok := strings.Cut(string(line), ":")
		base, plain := strings.CutSuffix(path.Base(file), ".ko")
		if ok && plain && !path.IsAbs(file) && !strings.Contains(file, "..") && len(out) < maxItems {
			out[file] = strings.ReplaceAll(base, "-", "_")
		}
	}
	return out
}

// fileBuildID is the build-id of a file; "" when there is none or the file is
// not ELF.
func fileBuildID(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	id, err := BuildIDOf(f)
	if err != nil {
		return ""
	}
	return id
}

// BuildIDOf reads the note of an ELF file; "" without an error when it has
// none.
func BuildIDOf(r io.ReaderAt) (string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", err
	}
	s := f.Section(".note.gnu.build-id")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > 4096 {
		return "", nil
	}
	note, err := s.Data()
	if err != nil {
		return "", err
	}
	return ParseBuildID(note)
}
