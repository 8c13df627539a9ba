// SPDX-License-Identifier: Apache-2.0

package code

import (
	"slices"
	"strings"
)

// Accepts reports whether a list of refusals to live with names a problem. Its
// items are CODE or CODE:WHERE ("TS4010:sysctl_x").
func Accepts(list []string, p *Problem) bool {
	return slices.ContainsFunc(list, func(item string) bool {
		c, where, only := strings.Cut(item, ":")
		return c == string(p.Code) && (!only || where == p.Where)
	})
}

// NotRefusals are the items of such a list that name no refusal of the
// catalogue: they would be in vain.
func NotRefusals(list []string) []string {
	var wrong []string
	for _, item := range list {
		c, _, _ := strings.Cut(item, ":")
		if e, ok := Lookup(Code(c)); !ok || e.Kind != KindRefusal {
			wrong = append(wrong, item)
		}
	}
	return wrong
}
