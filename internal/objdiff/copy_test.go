// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/objdiff"
)

const copyBase = `
struct dmi { const char *ident; void *data; char match[32]; };
struct usb { unsigned short vendor, product; unsigned long info; };
extern const struct dmi *dmi_first_match(const struct dmi *);
extern void keep(const struct dmi *);
extern void use(void *);
static int known = 4;
/*NEW*/
static const struct dmi quirks[] = {
	{ .ident = "one", .data = &known, .match = "one" },
	/*QUIRK*/
	{ }
};
static const struct dmi kept[] = { { .ident = "a", .match = "a" }, /*KEPT*/ { } };
static const struct usb ids[] = { { 1, 2, 3 }, { 1, 3, 3 }, /*ID*/ { } };
extern const struct usb __mod_usb__ids_device_table[3 + ID] __attribute__((alias("ids")));
struct driver { const struct usb *ids; } driver = { ids };
void probe(void *p) { const struct dmi *d = dmi_first_match(quirks); use(d ? d->data : 0); }
void other(void) { keep(kept); }
int code(int x) { return x /*CODE*/; }
int counts(int x) { return x < 2 ? ids[x].vendor : 0; }
struct param { const char *name; };
/*PARAM*/
`

func TestTablesOfAnotherSize(t *testing.T) {
	t.Parallel()
	flags := append(slices.Clone(kernelish), "-gbtf")
	orig := build(t, copyBase, append(flags, "-DID=0")...)
	const quirk, id, changed = `{ .ident = "two", .data = &known, .match = "two" },`, "{ 1, 4, 3 },", "+ 1"
	param := `static const struct param __param_depth __attribute__((used, section("__param"))) = { "depth" };`
	for name, tc := range map[string]struct {
		edits   []string
		added   bool // to the device table
		changed []string
		risks   []string
		refused string
	}{
		"one that is looked through is copied":         {edits: []string{"/*QUIRK*/", quirk}, changed: []string{"probe"}, risks: []string{"TS8006 quirks"}},
		"not with a pointer to data of the live patch": {edits: []string{"/*NEW*/", "static int fresh = 5;", "/*QUIRK*/", strings.Replace(quirk, "known", "fresh", 1)}, refused: "TS4011 quirks"},
		"not where others may keep a pointer":          {edits: []string{"/*KEPT*/", `{ .ident = "b", .match = "b" },`}, refused: "TS4011 kept"},
		"new devices are left out beside other changes": {
			edits: []string{"/*ID*/", id, "/*CODE*/", changed}, added: true, changed: []string{"code"}, risks: []string{"TS8013 ids"},
		},
		"alone they are refused":           {edits: []string{"/*ID*/", id}, added: true, refused: "TS4011 ids"},
		"as when an entry goes":            {edits: []string{"{ 1, 3, 3 }, /*ID*/", id + id, "/*CODE*/", changed}, added: true, refused: "TS4011 ids"},
		"or when code counts them":         {edits: []string{"/*ID*/", id, "x < 2", "x < 3"}, added: true, refused: "TS4011 ids"},
		"a new parameter beside a change":  {edits: []string{"/*PARAM*/", param, "/*CODE*/", changed}, changed: []string{"code"}, risks: []string{"TS8014 depth"}},
		"a new parameter alone is refused": {edits: []string{"/*PARAM*/", param}, refused: "TS4013 __param_depth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := copyBase
			for i := 0; i < len(tc.edits); i += 2 {
				qt.Assert(t, qt.IsTrue(strings.Contains(src, tc.edits[i])), qt.Commentf("%s", tc.edits[i]))
				src = strings.Replace(src, tc.edits[i], tc.edits[i+1], 1)
			}
			define := "-DID=0"
			if tc.added {
				define = "-DID=1"
			}
			patched := build(t, src, append(slices.Clone(flags), define)...)
			r, err := objdiff.Diff(orig, patched, editable(t, patched))
			qt.Assert(t, qt.IsNil(err))
			if tc.refused != "" {
				qt.Assert(t, qt.DeepEquals(codes(r), []string{tc.refused}), qt.Commentf("%v", r.Refusals))
				return
			}
			qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
			qt.Check(t, qt.DeepEquals(names(r.Changed), tc.changed))
			qt.Check(t, qt.DeepEquals(risks(r), tc.risks))
			checkExtract(t, r)
		})
	}
}
