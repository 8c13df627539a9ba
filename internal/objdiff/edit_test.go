// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

const editBase = `
typedef _Bool bool;
extern int other(void *);
extern void *kmemdup(const void *, unsigned long, int);
struct thing;
struct thing_ops { const char *name; int (*open)(struct thing *); int (*close)(struct thing *); bool fast; unsigned int mask; int *state; };
struct thing_setup { bool queue; int id; };
struct attribute_group { int (*is_visible)(struct thing *); };
struct nla_policy { unsigned char type; unsigned char kind; unsigned short len; long range; };
struct thing { const struct thing_ops *ops; };
int shared;
static int first(struct thing *t) { return 1; }
int second(struct thing *t) { return 2; }
/*NEW*/
const struct thing_ops ops = { .name = "x", .open = first, .close = second, .mask = 4 };
struct thing_ops writable = { .name = "w", .open = first };
const struct thing_setup setup[2] = { { .id = 1 }, { .id = 2 } };
const struct attribute_group group = { };
struct thing_ops copied = { .open = first };
const struct nla_policy policy[2] = { { .type = 1 }, { .type = 2, .len = 8 } };
int limit __attribute__((section(".data..read_mostly"))) = 5;
static int depth = 3;
struct ctl_table { const char *procname; void *data; int maxlen; unsigned short mode; int (*proc_handler)(void *); };
static int fixed = 3, width = 3, boot = 3;
struct ctl_table table[] = { { "fixed", &fixed, 4, 0444, other }, { "depth", &depth, 4, 0644, other } };
struct kernel_param { const char *name; void *mod; const void *ops; const unsigned short perm; signed char level; unsigned char flags; void *arg; };
static const struct kernel_param width_param __attribute__((used, section("__param"))) = { .name = "width", .perm = 0600, .arg = &width };
static const struct kernel_param boot_param __attribute__((used, section("__param"))) = { .name = "boot", .perm = 0444, .arg = &boot };
struct amdgpu_ring_funcs { int type; bool no_user_fence; bool other; int (*emit)(struct thing *); };
const struct amdgpu_ring_funcs ring = { .emit = first };
struct mr_table_ops { int (*rule)(struct thing *); };
const struct mr_table_ops routes = { .rule = first };
struct Qdisc_ops { int (*enqueue)(struct thing *); int (*peek)(struct thing *); };
const struct Qdisc_ops queue = { .enqueue = first, .peek = first };
struct thing_ops apart = { .open = first }, whole = { .open = first };
struct thing_ops twin;
int parts(struct thing *t) { twin.open = apart.open; return other(t) + 7; }
int clones(struct thing_ops *to, struct thing *t) { *to = whole; return other(to) + other(t); }
int calls(struct thing *t) { return apart.close ? apart.close(t) : 0; }
int later;
static bool quiet;
int use(struct thing *t) { t->ops = &ops; later++; return limit + quiet + depth + fixed + width + boot; }
void hush(void) { quiet = !quiet; }
void *copies(void) { return kmemdup(&copied, sizeof(copied), 0); }
`

// editable gives the differ the types of an object, as package builder does.
func editable(t *testing.T, f *elfobj.File) objdiff.Options {
	t.Helper()
	types, err := layout.Parse(f.Section(".BTF").Data)
	qt.Assert(t, qt.IsNil(err))
	return objdiff.Options{Field: types.Field}
}

func TestDataThatIsEditedInPlace(t *testing.T) {
	t.Parallel()
	flags := append(slices.Clone(kernelish), "-gbtf")
	orig := build(t, editBase, flags...)
	fresh := "/*NEW*/static int third(struct thing *t) { return shared; }"
	for name, tc := range map[string]struct {
		edits   []string // old, new, ...
		risks   []string
		refused string // part of the reason, with the code
		words   int
		flags   uint32
		changed []string
	}{
		"another function": {
			edits: []string{".close = second", ".close = other"}, risks: []string{"TS8011 ops"}, words: 1,
		},
		"a function where none was": {
			edits: []string{`"w", .open = first`, `"w", .open = first, .close = second`}, risks: []string{"TS8011 writable"}, words: 1,
			flags: objdiff.EditFilled | objdiff.EditStays,
		},
		"a new function, behind one that is replaced for it": {
			edits: []string{"/*NEW*/", fresh, ".close = second", ".close = third"}, words: 1,
			risks: []string{"TS8004 third", "TS8011 ops"}, changed: []string{"first"},
		},
		"a new function, behind one that changes anyway": {
			edits: []string{"/*NEW*/", fresh, ".close = second", ".close = third", "limit + quiet", "limit - quiet"}, words: 1,
			risks: []string{"TS8004 third", "TS8011 ops"}, changed: []string{"use"},
		},
		"a flag among operations":            {edits: []string{"ring = {", "ring = { .no_user_fence = 1,"}, risks: []string{"TS8011 ring"}, words: 1},
		"a flag that nobody has looked at":   {edits: []string{".mask = 4", ".mask = 4, .fast = 1"}, refused: "TS4010 ops.fast: a flag in a table may be read twice"},
		"the rule of an attribute":           {edits: []string{".len = 8", ".len = 16"}, risks: []string{"TS8011 policy"}, words: 1},
		"a pointer to data that exists":      {edits: []string{".mask = 4", ".mask = 4, .state = &shared"}, risks: []string{"TS8011 ops"}, words: 1, flags: objdiff.EditStays},
		"what may have sized something":      {edits: []string{"= 5;", "= 6;"}, refused: "TS4010 limit: it is no setting"},
		"a sysctl that nobody may write":     {edits: []string{"fixed = 3", "fixed = 4"}, refused: "TS4010 fixed: it is no setting"},
		"a parameter for loading":            {edits: []string{"boot = 3", "boot = 4"}, refused: "TS4010 boot: it is no setting"},
		"an initial value of a parameter":    {edits: []string{"width = 3", "width = 4"}, risks: []string{"TS8012 width"}, words: 1},
		"an initial value of a sysctl":       {edits: []string{"depth = 3", "depth = 0"}, risks: []string{"TS8012 depth"}, words: 1},
		"what may count or remember":         {edits: []string{"int later;", "int later = 7;"}, refused: "TS4010 later: it is no setting"},
		"a flag that may":                    {edits: []string{"bool quiet;", "bool quiet = 1;"}, refused: "TS4010 quiet: it is no setting"},
		"a function goes away":               {edits: []string{".close = second, ", ""}, refused: "TS4010 ops.close: a pointer goes away"},
		"a number among operations":          {edits: []string{".mask = 4", ".mask = 5"}, refused: "TS4010 ops.mask: a number in a table may be read twice"},
		"a string":                           {edits: []string{`"x"`, `"y"`}, refused: "TS4010 ops.name: it would point into the live patch"},
		"a pointer to new data":              {edits: []string{"/*NEW*/", "static int fresh = 3;", ".mask = 4", ".mask = 4, .state = &fresh"}, refused: "TS4010 ops.state: it would point to fresh of the live patch"},
		"what a device was set up by":        {edits: []string{".id = 2", ".id = 2, .queue = 1"}, refused: "TS4010 setup[1].queue: struct thing_setup describes"},
		"what sysfs read when it made files": {edits: []string{"group = { }", "group = { .is_visible = second }"}, refused: "TS4010 group.is_visible: sysfs reads it"},
		"what has been copied":               {edits: []string{"copied = { .open = first", "copied = { .open = second"}, refused: "TS4010 copies makes copies of it"},
		"what others copy":                   {edits: []string{".rule = first", ".rule = second"}, refused: "TS4010 routes.rule: objects that exist have copies of it"},
		"a member that is copied":            {edits: []string{".enqueue = first", ".enqueue = second"}, refused: "TS4010 queue.enqueue: queues that exist have a copy of it"},
		"a member beside it":                 {edits: []string{".peek = first", ".peek = second"}, risks: []string{"TS8011 queue"}, words: 1},
		"what is read member by member":      {edits: []string{"apart = { .open = first", "apart = { .open = second"}, refused: "TS4010 apart.open: parts reads it member by member"},
		"what is copied as a whole":          {edits: []string{"whole = { .open = first", "whole = { .open = second"}, refused: "TS4010 whole.open: clones reads it member by member"},
		"what grows":                         {edits: []string{"setup[2]", "setup[3]"}, refused: "TS4011 size changes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := editBase
			for i := 0; i < len(tc.edits); i += 2 {
				qt.Assert(t, qt.IsTrue(strings.Contains(src, tc.edits[i])), qt.Commentf("%s", tc.edits[i]))
				src = strings.Replace(src, tc.edits[i], tc.edits[i+1], 1)
			}
			patched := build(t, src, flags...)
			r, err := objdiff.Diff(orig, patched, editable(t, patched))
			qt.Assert(t, qt.IsNil(err))
			if tc.refused != "" {
				qt.Assert(t, qt.HasLen(r.Refusals, 1), qt.Commentf("%v", r.Refusals))
				code, why, _ := strings.Cut(tc.refused, " ")
				qt.Check(t, qt.Equals(string(r.Refusals[0].Code), code))
				qt.Check(t, qt.StringContains(r.Refusals[0].Why, why))
				return
			}
			qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
			qt.Check(t, qt.DeepEquals(risks(r), tc.risks))
			qt.Check(t, qt.DeepEquals(names(r.Changed), tc.changed))
			qt.Check(t, qt.IsFalse(r.Same()))
			e := checkExtract(t, r)
			qt.Assert(t, qt.IsNotNil(e.Edits))
			qt.Check(t, qt.Equals(int(e.Edits.Size), tc.words*objdiff.EditSize))
			checkEdits(t, e)
			if !slices.ContainsFunc(tc.risks, func(s string) bool { return strings.HasPrefix(s, "TS8012") }) {
				qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(e.Edits.Section.Data[36:]), tc.flags))
			}
			// A table that leads into a live patch must not outlive it.
			qt.Check(t, qt.Equals(len(e.Lent) > 0, slices.Contains(tc.risks, "TS8004 third")), qt.Commentf("%q", e.Lent))
		})
	}
}

// checkEdits looks at the table as the generated C does: every entry says
// where, and no field that a relocation fills in holds anything, which the
// kernel would refuse.
func checkEdits(t *testing.T, e *objdiff.Extract) {
	t.Helper()
	sec := e.Edits.Section
	for at := uint64(0); at < uint64(len(sec.Data)); at += objdiff.EditSize {
		i := slices.IndexFunc(sec.Relocs, func(r elfobj.Reloc) bool { return r.Off == at })
		qt.Assert(t, qt.IsTrue(i >= 0))
		qt.Check(t, qt.IsTrue(sec.Relocs[i].Sym.Undefined()), qt.Commentf("a variable of the target"))
		size := binary.LittleEndian.Uint32(sec.Data[at+32:])
		qt.Check(t, qt.IsTrue(slices.Contains([]uint32{1, 2, 4, 8}, size)))
		mask := binary.LittleEndian.Uint64(sec.Data[at+24:])
		qt.Check(t, qt.IsTrue(mask != 0 && (size == 8 || mask>>(8*size) == 0)), qt.Commentf("mask %#x of %d bytes", mask, size))
		for _, r := range sec.Relocs {
			if r.Off >= at && r.Off < at+objdiff.EditSize {
				qt.Check(t, qt.Equals(elf.R_X86_64(r.Type), elf.R_X86_64_64))
				qt.Check(t, qt.Equals(binary.LittleEndian.Uint64(sec.Data[r.Off:]), 0))
			}
		}
	}
}
