// SPDX-License-Identifier: Apache-2.0

package series

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// TestWhoBringsAName: the fix that declares it before those that use it, of a
// header before others, and of several the nearest.
func TestWhoBringsAName(t *testing.T) {
	change := func(id, path, lines string) *Fix {
		d, err := fix.Parse(id+".diff", fix.Unified(path, []byte("int x;\n"), []byte("int x;\n"+lines)))
		qt.Assert(t, qt.IsNil(err))
		return &Fix{Meta: Meta{ID: id}, Diff: d}
	}
	created, err := fix.Parse("new.diff", fix.Unified("include/net/new.h", nil, []byte("#define NEW 1\n")))
	qt.Assert(t, qt.IsNil(err))
	fixes := []*Fix{
		change("user", "net/a.c", "\treturn helper(p->room) + LIMIT;\n"),
		change("static", "net/core/b.c", "static int helper(int n)\n"),
		change("member", "fs/c.c", "\tint room;\n"),
		change("header", "include/net/d.h", "\tint room;\nint helper(int);\n"),
		change("macro", "drivers/e.c", "#define LIMIT 3\n"),
		change("ops", "include/net/ops.h", "\tint (*dump)(struct skb *, bool);\n"),
		{Meta: Meta{ID: "new"}, Diff: created},
	}
	n := NewNames(fixes)
	for _, c := range []struct {
		missed Missed
		skip   []int
		want   string
		sure   bool
	}{
		{Missed{Name: "helper", File: "net/a.c"}, nil, "header", true},
		{Missed{Name: "helper", File: "net/a.c"}, []int{3}, "static", true},
		{Missed{Name: "helper", File: "net/a.c"}, []int{1, 3}, "user", false},
		{Missed{Name: "room", File: "fs/c.c"}, []int{3}, "member", true},
		{Missed{Name: "LIMIT", File: "net/a.c"}, nil, "macro", true},
		{Missed{Name: "gone", In: "struct ops", File: "net/a.c"}, nil, "user", false},
		{Missed{Name: "net/new.h", File: "fs/z.c"}, nil, "new", true},
		{Missed{Name: "nothing", File: "fs/z.c"}, nil, "", false},
		{Missed{File: "drivers/e.c"}, nil, "macro", false},
	} {
		var skip []*Fix
		for _, i := range c.skip {
			skip = append(skip, fixes[i])
		}
		f, sure := n.Brings(c.missed, Among(skip))
		id := ""
		if f != nil {
			id = f.ID
		}
		qt.Check(t, qt.Equals(id, c.want), qt.Commentf("%+v without %v", c.missed, c.skip))
		qt.Check(t, qt.Equals(sure, c.sure), qt.Commentf("%+v without %v", c.missed, c.skip))
	}
	f := n.Typed("from incompatible pointer type 'int (*)(struct skb *)'", "net/a.c", Among(nil))
	qt.Check(t, qt.Equals(f.ID, "ops"))
}
