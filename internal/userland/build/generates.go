// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// generates says what is made of a header besides the units that read it, ""
// for nothing: such a file would stay as it was, and nobody would notice.
func generates(ctx context.Context, top string, c fix.Change) (string, error) {
	switch path.Ext(c.Path) {
	case ".h", ".hh", ".hpp", ".hxx", ".inc", ".ic", ".i", ".tbl":
	default:
		return "", nil
	}
	// PostgreSQL's catalogs: a script reads all headers with this macro.
	if strings.Contains(string(c.New)+string(c.Old), "\nCATALOG(") {
		return "the system catalogs are made of it", nil
	}
	found := ""
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil || found != "" {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		make, cmake := makefile(d.Name()), d.Name() == "CMakeLists.txt" || path.Ext(d.Name()) == ".cmake"
		if !d.Type().IsRegular() || !make && !cmake {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil || !strings.Contains(string(text), path.Base(c.Path)) {
			return err
		}
		rule := ""
		if make {
			rule = madeByRule(string(text), path.Base(c.Path))
		} else {
			rule = madeByCommand(string(text), path.Base(c.Path))
		}
		if rule != "" {
			rel, _ := filepath.Rel(top, p) // p lies below top
			found = rule + " is made of it in " + rel
		}
		return nil
	})
	return found, err
}

func makefile(name string) bool {
	return strings.HasPrefix(name, "Makefile") || strings.HasPrefix(name, "makefile") || name == "GNUmakefile" || name == "Makerules" || name == "Rules" || path.Ext(name) == ".mk"
}

// madeSource are targets that other sources come from.
var madeSource = regexp.MustCompile(`(?:\.(?:h|hh|hpp|c|cc|cpp|inc|ic|i|tbl|y|yy|l|S|s|bki|sql|dat|T)|[-._]stamp|stamp[-._][a-z]*)$`)

// madeByRule finds a rule of make that makes a source of a file, and returns
// its target.
func madeByRule(text, base string) string {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		if !strings.Contains(line, base) || line[0] == '\t' || line[0] == '#' {
			continue
		}
		targets, needs, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(strings.TrimLeft(needs, ":"), "=") || strings.Contains(targets, "=") {
			continue
		}
		for _, n := range strings.Fields(needs) {
			if path.Base(n) != base {
				continue
			}
			for _, t := range strings.Fields(targets) {
				if madeSource.MatchString(t) && path.Base(t) != base {
					return t
				}
			}
		}
	}
	return ""
}

var (
	customCommand = regexp.MustCompile(`(?is)\badd_custom_command\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)`)
	customOutput  = regexp.MustCompile(`(?is)\boutput\s+(\S+)`)
)

// madeByCommand does the same for commands of CMake.
func madeByCommand(text, base string) string {
	for _, m := range customCommand.FindAllStringSubmatch(text, -1) {
		out := customOutput.FindStringSubmatch(m[1])
		if out == nil || path.Base(out[1]) == base {
			continue
		}
		for _, w := range strings.Fields(m[1]) {
			if path.Base(w) == base {
				return out[1]
			}
		}
	}
	return ""
}
