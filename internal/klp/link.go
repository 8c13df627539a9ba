// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// KbuildLinker returns a Target.Link that runs make with the given arguments,
// those of every make of the target.
func KbuildLinker(makeArgs []string) func(ctx context.Context, dir string) ([]byte, error) {
	return func(ctx context.Context, dir string) ([]byte, error) {
		// Warnings go to standard error, and are wanted in their place.
		args := append([]string{"-c", `exec make "$@" 2>&1`, "make"}, makeArgs...)
		args = append(args,
			"M="+dir,
			// Undefined symbols are what livepatch is for: they are settled
			// after the link, and checked there against the exports.
			"KBUILD_MODPOST_WARN=1",
			// Neither debug information nor BTF would be kept.
			"KCFLAGS=-g0", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules")
		out, err := kernel.Command{Dir: dir, Name: "sh", Args: args}.Run(ctx)
		if exit, ok := errors.AsType[*kernel.ExitError](err); ok {
			return nil, code.New("TS5304", filepath.Base(dir), "").With(fmt.Errorf("%w\n%s", err, exit.Output))
		}
		return out, err
	}
}

// link writes the module's directory, runs Kbuild over it and returns the .ko
// with what was printed. Pieces go in as prebuilt objects (Kbuild's _shipped).
func link(ctx context.Context, t *Target, name, source string, pieces []*piece) (ko, log []byte, err error) {
	parent, err := os.MkdirTemp("", "tsugi-klp-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(parent)
	// Kbuild's messages name the directory; its own name is always the same.
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	files := map[string][]byte{"livepatch-tables.c": []byte(source)}
	objs := []string{"livepatch-tables.o"}
	for i, p := range pieces {
		b, err := p.file.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("extract of %s: %w", p.in.Object, err)
		}
		obj := fmt.Sprintf("livepatch-part-%d.o", i)
		objs = append(objs, obj)
		files[obj+"_shipped"] = b
		// modpost asks where an object comes from when it computes srcversion.
		files["."+obj+".cmd"] = fmt.Appendf(nil, "source_%s/%s := %s/livepatch-tables.c\n\ndeps_%s/%s :=\n", dir, obj, dir, dir, obj)
	}
	files["Kbuild"] = fmt.Appendf(nil, "obj-m := %s.o\n%s-y := %s\n", name, name, strings.Join(objs, " "))
	for n, b := range files {
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			return nil, nil, kernel.DiskError(dir, err)
		}
	}
	if log, err = t.Link(ctx, dir); err != nil {
		return nil, nil, err
	}
	ko, err = os.ReadFile(filepath.Join(dir, name+".ko"))
	if err != nil {
		return nil, nil, code.New("TS5304", name, "Kbuild made no module").With(err)
	}
	return ko, log, nil
}

// undefinedWarning is what modpost says of symbols that livepatch will find.
// They are compared with what is expected after the link, in the module itself.
var undefinedWarning = regexp.MustCompile(`^WARNING: modpost: ("[^"]+" \[[^]]+\] undefined!|suppressed \d+ unresolved symbol warnings.*)$`)

// expected are complaints that mean nothing here.
var expected = []*regexp.Regexp{
	undefinedWarning,
	// It compares the name by which the compiler is called, too. The target
	// was made with this compiler, or package kernel would have refused it.
	regexp.MustCompile(`^warning: the compiler differs from the one used to build the kernel$`),
	// The table of functions points at replacements without ENDBR. Only ftrace
	// goes there, by a return and not by an indirect call.
	regexp.MustCompile(`: warning: objtool: tsugi_funcs_\w+\+0x[0-9a-f]+: data relocation to !ENDBR: `),
}

// unexpected returns the lines of Kbuild's output that a clean build of the
// module does not print.
func unexpected(log []byte) []string {
	var out []string
	sc := bufio.NewScanner(bytes.NewReader(log))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		low := strings.ToLower(line)
		if !strings.Contains(low, "warning:") && !strings.Contains(low, "error:") ||
			slices.ContainsFunc(expected, func(r *regexp.Regexp) bool { return r.MatchString(line) }) {
			continue
		}
		out = append(out, line)
	}
	return out
}
