// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// TestTablesPointToCopiesOfWhatCannotBeRedirected: the kernel's inline
// functions have no call to the tracer, and some are in tables of operations.
func TestTablesPointToCopiesOfWhatCannotBeRedirected(t *testing.T) {
	t.Parallel()
	src := strings.NewReplacer(
		"/*NEW*/", `static __attribute__((no_instrument_function, noinline)) int quiet_open(struct thing *t) { return other(t) + 1; }
int direct(struct thing *t) { return quiet_open(t) * 2; }`,
		`ops = { .name = "x", .open = first`, `ops = { .name = "x", .open = quiet_open`,
	).Replace(editBase)
	flags := append(slices.Clone(kernelish), "-gbtf")
	for name, tc := range map[string]struct {
		also     string
		changed  []string
		edits    []string
		refusals []string
	}{
		"a table of operations":       {changed: []string{"direct"}, edits: []string{"ops"}},
		"a pointer that is elsewhere": {also: "int (*hidden)(struct thing *) = quiet_open;", changed: []string{"quiet_open"}, refusals: []string{"TS4001 quiet_open"}},
		"code that takes the address": {also: "extern void keep(void *); void keeps(void) { keep(quiet_open); }", changed: []string{"quiet_open"}, refusals: []string{"TS4001 quiet_open"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orig := build(t, src+tc.also, flags...)
			patched := build(t, strings.Replace(src, "other(t) + 1", "other(t) + 2", 1)+tc.also, flags...)
			r, err := objdiff.Diff(orig, patched, editable(t, patched))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(codes(r), tc.refusals))
			qt.Check(t, qt.DeepEquals(names(r.Changed), tc.changed))
			var edits []string
			for _, e := range r.Edits {
				edits = append(edits, e.Variable)
			}
			qt.Check(t, qt.DeepEquals(edits, tc.edits))
			if tc.refusals == nil {
				qt.Check(t, qt.DeepEquals(names(r.New), []string{"quiet_open"}))
				checkExtract(t, r)
			}
		})
	}
}
