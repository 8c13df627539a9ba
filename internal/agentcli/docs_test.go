// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/command"
)

var update = flag.Bool("update", false, "rewrite the generated pages of docs/")

func TestReferenceIsUpToDate(t *testing.T) {
	want := command.Reference(Commands())
	if *update {
		qt.Assert(t, qt.IsNil(os.WriteFile("../../docs/tsugi.md", []byte(want), 0o644)))
	}
	got, err := os.ReadFile("../../docs/tsugi.md")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(string(got) == want), qt.Commentf("docs/tsugi.md is out of date: make docs"))
}

func TestEveryCommandIsDocumented(t *testing.T) {
	qt.Check(t, qt.HasLen(command.Undocumented(Commands()), 0))
}

// TestEveryKeyIsDocumented: docs/agent.md has a line for each key of the
// configuration.
func TestEveryKeyIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/agent.md")
	qt.Assert(t, qt.IsNil(err))
	var keys func(typ reflect.Type, prefix string)
	keys = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
			if ft := typ.Field(i).Type; ft.Kind() == reflect.Struct {
				keys(ft, prefix+name+".")
				continue
			}
			qt.Check(t, qt.StringContains(string(page), "`"+prefix+name+"`"))
		}
	}
	keys(reflect.TypeFor[agent.Config](), "")
}
