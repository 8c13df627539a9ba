// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestRoomBehindObjects(t *testing.T) {
	for name, tc := range map[string]struct {
		src        string
		size, room int
	}{
		"one at a time":              {"struct s *x = kzalloc(sizeof(*x), GFP_KERNEL);\n", 200, 256},
		"by its name":                {"p = kzalloc(sizeof(struct s), GFP_KERNEL);\n", 97, 128},
		"a size of its own":          {"p = kzalloc(sizeof(struct s), GFP_KERNEL);\n", 96, 96},
		"on a node":                  {"struct s *x = kzalloc_node(sizeof(*x), GFP_KERNEL, n);\n", 9, 16},
		"with a device's":            {"struct s *x = devm_kzalloc(&pdev->dev, sizeof(*x), GFP_KERNEL);\n", 200, 216},
		"the least of both":          {"struct s *x = devm_kzalloc(dev, sizeof(*x), GFP_KERNEL); x = kzalloc(sizeof(*x), 0);\n", 210, 216},
		"none is made":               {"void f(struct s *x);\n", 200, 0},
		"more than there is":         {"p = kzalloc(sizeof(struct s), GFP_KERNEL);\n", 9000, 0},
		"an array":                   {"struct s *x = kcalloc(n, sizeof(*x), GFP_KERNEL);\n", 200, 0},
		"a product":                  {"struct s *x = kzalloc(sizeof(*x) * n, GFP_KERNEL);\n", 200, 0},
		"a product, behind":          {"struct s *x = kzalloc(n * sizeof(*x), GFP_KERNEL);\n", 200, 0},
		"a sum":                      {"struct s *x = kzalloc(sizeof(*x) + n, GFP_KERNEL);\n", 200, 0},
		"with an array":              {"struct s *x = kzalloc(struct_size(x, tab, n), GFP_KERNEL);\n", 200, 0},
		"behind a subsystem's":       {"struct s *x; hw = ieee802154_alloc_hw(sizeof(*x), &ops);\n", 200, 0},
		"another is not zeroed":      {"struct s *x = kzalloc(sizeof(*x), 0); x = kmalloc(sizeof(*x), 0);\n", 200, 0},
		"another is inside of some":  {"struct s *x = kzalloc(sizeof(*x), 0); struct t { struct s in; };\n", 200, 0},
		"another is one of an array": {"struct s *x = kzalloc(sizeof(*x), 0); static struct s all[4];\n", 200, 0},
	} {
		qt.Check(t, qt.Equals(roomOf([]string{tc.src}, "struct s", tc.size, 40), tc.room), qt.Commentf("%s", name))
	}
	qt.Check(t, qt.Equals(roomOf([]string{"p = devm_kzalloc(dev, sizeof(struct s), 0);"}, "struct s", 200, 0), 0))
}

func TestContextsOfDumps(t *testing.T) {
	const use = "struct s {\n\tint n;\n};\n\nint f(struct netlink_callback *cb)\n{\n\tstruct s *ctx = (void *)cb->ctx;\n\n\tBUILD_BUG_ON(sizeof(*ctx) > sizeof(cb->ctx));\n\treturn g(ctx);\n}\n"
	for name, tc := range map[string]struct {
		src string
		ok  bool
	}{
		"all of it":              {use, true},
		"given to another":       {use + "int g(struct s *ctx)\n{\n}\n", true},
		"other words below":      {use + "int h(void)\n{\n\treturn cb->args[1];\n}\n", true},
		"the same words":         {use + "int h(void)\n{\n\treturn cb->args[5];\n}\n", false},
		"maybe the same words":   {use + "int h(int i)\n{\n\treturn cb->args[i];\n}\n", false},
		"all words":              {use + "int h(void)\n{\n\treturn k(cb->args);\n}\n", false},
		"somewhere else":         {use + "struct s *ctx = skb->cb;\n", false},
		"on a stack":             {use + "void h(void) { struct s x; g(&x); }\n", false},
		"allocated":              {use + "void h(void) { p = kzalloc(sizeof(struct s), 0); }\n", false},
		"copied":                 {use + "void h(void) { memcpy(ctx, p, sizeof(*ctx)); }\n", false},
		"no context of a dump":   {"struct s {\n\tint n;\n};\n", false},
		"what is kept elsewhere": {use + "struct t { struct s *ctx; };\n", false},
	} {
		qt.Check(t, qt.Equals(onlyDumpContext(tc.src, "struct s"), tc.ok), qt.Commentf("%s", name))
	}
}

func TestNewMembersThatCount(t *testing.T) {
	qt.Check(t, qt.IsTrue(countsFrom([]string{"void f(struct s *x)\n{\n\tif (--x->users == 0)\n\t\tkfree(x);\n}\n"}, "users")))
	qt.Check(t, qt.IsTrue(countsFrom([]string{"", "void f(struct s *x)\n{\n\tx->in.users -= n;\n}\n"}, "users")))
	qt.Check(t, qt.IsFalse(countsFrom([]string{"void f(struct s *x)\n{\n\tx->users++;\n\tusers--;\n\tx->more_users--;\n}\n"}, "users")))
}
