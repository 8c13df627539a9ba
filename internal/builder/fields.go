// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// fieldsOf tells the differ what lies where in an object's variables. Types
// are read when first asked for: few changes are about data.
func fieldsOf(f *elfobj.File) func(variable string, off uint64) (layout.Field, bool) {
	var types *layout.Types
	parsed := false
	return func(variable string, off uint64) (layout.Field, bool) {
		if s := f.Section(".BTF"); !parsed && s != nil {
			types, _ = layout.Parse(s.Data) // compareTypes tells what is wrong with them
		}
		parsed = true
		if types == nil {
			return layout.Field{}, false
		}
		return types.Field(variable, off)
	}
}
