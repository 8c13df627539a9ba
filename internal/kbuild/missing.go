// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Missed is one message of the compiler about something that it did not find,
// or found to be otherwise than the source has it.
type Missed struct {
	Kind MissedKind
	Name string // of what is missing; "" when the message tells no name
	In   string // of a member: its struct, "struct sk_buff"
	File string // where it was missed, below the source
	Line int
}

// MissedKind says what is missing.
type MissedKind string

const (
	MissedName     MissedKind = "name"     // a function, variable, constant or macro
	MissedMember   MissedKind = "member"   // a member of a struct or union
	MissedType     MissedKind = "type"     // a type that is unknown or incomplete
	MissedHeader   MissedKind = "header"   // a file to include
	MissedSameness MissedKind = "sameness" // there, with another type or other parameters
)

var errorForm = regexp.MustCompile(`^([\w.+/-]+):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$`)

// messageForms are gcc's messages (gcc/c/c-decl.cc, c-typeck.cc, c-parser.cc),
// as printed with LC_ALL=C. The last group is the name, one before it the
// struct.
func messageForms() []messageForm {
	const q, name = `['‘"]`, `([A-Za-z_]\w*)`
	quoted := q + `(?:struct |union |enum )?` + name + `['’"]`
	forms := []struct {
		kind MissedKind
		form string
	}{
		{MissedHeader, `^([^:\s]+): No such file or directory`},
		{MissedMember, q + `(?:const |volatile )*((?:struct |union )[\w<> ]+)['’"]}? has no member named ` + quoted},
		{MissedMember, `has no member named ` + quoted},
		{MissedMember, `unknown field ` + quoted + ` specified in initializer`},
		{MissedName, quoted + ` undeclared`},
		{MissedName, `implicit declaration of function ` + quoted},
		{MissedName, `label ` + quoted + ` used but not defined`},
		{MissedName, quoted + ` (?:defined|declared) but not used`},
		{MissedName, quoted + ` used but never defined`},
		{MissedType, `unknown type name ` + quoted},
		{MissedType, `invalid use of undefined type ` + quoted},
		{MissedType, `invalid application of ` + q + `sizeof['’"] to incomplete type ` + quoted},
		{MissedType, `invalid use of incomplete typedef ` + quoted},
		{MissedType, quoted + ` has an incomplete type`},
		{MissedType, `storage size of ` + quoted + ` isn['’]t known`},
		{MissedSameness, `too (?:few|many) arguments to function ` + quoted},
		{MissedSameness, `macro ` + q + name + `['’"] (?:passed|requires) \d+ arguments`},
		{MissedSameness, `conflicting types for ` + quoted},
		{MissedSameness, `static declaration of ` + quoted},
		{MissedSameness, `redefinition of ` + quoted},
		{MissedSameness, `redeclaration of ` + quoted},
		{MissedSameness, `redeclaration of ` + q + `enum ` + name},
		{MissedSameness, `passing argument \d+ of ` + quoted},
		{MissedSameness, `too (?:few|many) arguments to function ` + q + `\w+->` + name},
	}
	out := make([]messageForm, len(forms))
	for i, f := range forms {
		out[i] = messageForm{f.kind, regexp.MustCompile(f.form)}
	}
	return out
}

type messageForm struct {
	kind MissedKind
	form *regexp.Regexp
}

// Missing reads what a compiler missed out of its messages, such as those of a
// TS3101: those with a name first, each once. An error of another kind, whose
// message no form matches, has an empty Kind and the name that it quotes last,
// if any.
func Missing(messages string) []Missed {
	forms := messageForms()
	quoted := regexp.MustCompile(`['‘]([^'’]*?)([A-Za-z_]\w*)['’]`)
	var out []Missed
	for line := range strings.Lines(messages) {
		m := errorForm.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		missed := Missed{File: m[1], Line: n}
		text, _, _ := strings.Cut(m[3], "; did you mean")
		for _, f := range forms {
			g := f.form.FindStringSubmatch(text)
			if g == nil {
				continue
			}
			missed.Kind, missed.Name = f.kind, g[len(g)-1]
			if len(g) == 3 {
				missed.In = strings.TrimSpace(g[1])
			}
			break
		}
		if missed.Kind == "" {
			text, _, _ = strings.Cut(text, "[-W")
			if all := quoted.FindAllStringSubmatch(text, -1); len(all) > 0 {
				missed.Name = all[len(all)-1][2]
			}
		}
		if !slices.Contains(out, missed) {
			out = append(out, missed)
		}
	}
	slices.SortStableFunc(out, func(a, b Missed) int { return rank(a) - rank(b) })
	return out
}

func rank(m Missed) int {
	switch {
	case m.Name != "" && m.Kind != "":
		return 0
	case m.Name != "":
		return 1
	}
	return 2
}
