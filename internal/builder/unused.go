// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// A member that a fix removes from a struct and that is kept in its place is
// not used by new code. Objects that new code makes may meet old code: while
// the transition goes on, and after a revert. And what old code put there stays in
// objects that new code ends. What both mean is read from the old source, where all
// uses of the member are: without it, new code would not compile.

// standsUnused reports whether old code stands objects in which new code has
// not touched the member. olds are the old sources of the files that the fix
// changes, and zeroed says that all objects are zeroed when they are made.
//
//   - A number may be whatever it is, unless it counts: an object that is freed
//     when the count falls to zero would be so too early, or never.
//   - A pointer is followed only in functions that set it before, freed, or
//     compared with NULL. That also says that there is nothing to stop
//     that the pointer leads to: freeing it is all that ends it, and new code
//     leaves that memory alone, for good.
//   - A lock has its initialisation kept (see keepInits).
func standsUnused(olds []string, m layout.Move, zeroed bool) bool {
	return eachUse(olds, m.Member, func(u use) bool {
		switch m.What {
		case layout.Number, layout.Counter:
			return !counts(u.before, u.after)
		case layout.Pointer:
			return zeroed && u.base != "" && (writes(u.before, u.after) || idle(u.before, u.after) || setBefore(u.text, len(u.before), u.base+m.Member))
		}
		return true
	})
}

// countsFrom reports whether some code counts a member down. In objects that
// exist a new one has not been counted up.
func countsFrom(texts []string, member string) bool {
	return !eachUse(texts, member, func(u use) bool { return !counts(u.before, u.after) })
}

// uses are the texts of some that use a member in lines that others of them have
// not: what a file goes on using is a member of something else.
func uses(member string, texts, others []string) (out []string) {
	named := regexp.MustCompile(`(->|\.)\s*` + regexp.QuoteMeta(member) + `\b`)
	for i, text := range texts {
		if !strings.Contains(text, member) {
			continue
		}
		there := map[string]bool{}
		for line := range strings.SplitSeq(others[i], "\n") {
			there[strings.TrimSpace(line)] = true
		}
		for line := range strings.SplitSeq(text, "\n") {
			if named.MatchString(line) && !there[strings.TrimSpace(line)] {
				out = append(out, text)
				break
			}
		}
	}
	return out
}

// use is a place where a text names a member of something.
type use struct{ text, before, after, base string }

// eachUse calls a function for the uses of a member until it is false, and
// reports whether it never was.
func eachUse(texts []string, member string, ok func(use) bool) bool {
	named := regexp.MustCompile(`((?:\w+(?:\[[^\[\]]*\])?(?:->|\.))*)((?:->|\.)?)` + regexp.QuoteMeta(member) + `\b`)
	for _, text := range texts {
		text = blankComments(text)
		for _, at := range named.FindAllStringSubmatchIndex(text, -1) {
			base := text[at[2]:at[3]]
			if base == "" && at[4] == at[5] {
				continue // a name of its own
			}
			if !ok(use{text, text[:at[0]], text[at[1]:], base}) {
				return false
			}
		}
	}
	return true
}

var (
	countsDown = regexp.MustCompile(`(--|\b\w*(_and_test|_and_lock|_not_zero|_unless\w*|_dec_return\w*|_sub_return\w*|fetch_sub\w*|fetch_dec\w*)\s*\(\s*&?|-=\s*1\s*,)\s*$`)
	freed      = regexp.MustCompile(`\b(kfree|kvfree|vfree|kfree_sensitive|kfree_const)\s*\(\s*$`)
	asked      = regexp.MustCompile(`(!|\b(if|while)\s*\(\s*|&&\s*|\|\|\s*)$`)
	answered   = regexp.MustCompile(`^\s*(\)|&&|\|\||[=!]=\s*NULL\b|\?\s*\d+\s*:)`)
	assigned   = regexp.MustCompile(`^\s*=[^=]`)
	label      = regexp.MustCompile(`\n\w+:\s*\n|\bcase\b|\bdefault\s*:`)
	begun      = regexp.MustCompile(`(^|[;{}])\s*$`)
)

// counts reports whether a number is counted down at its use.
func counts(before, after string) bool {
	return countsDown.MatchString(before) || strings.HasPrefix(strings.TrimLeft(after, " \t"), "--") ||
		regexp.MustCompile(`^\s*-=`).MatchString(after)
}

// writes reports whether a use only stores to the member, as a statement of its own.
func writes(before, after string) bool {
	return assigned.MatchString(after) && begun.MatchString(before)
}

// idle reports whether a use frees what the member points to, or only asks
// whether it is NULL.
func idle(before, after string) bool {
	if freed.MatchString(before) {
		return strings.HasPrefix(strings.TrimLeft(after, " \t"), ")")
	}
	return asked.MatchString(before) && answered.MatchString(after)
}

// setBefore reports whether the function around a place of a text has stored to
// the expression by then, on every way to there: as a statement of a block that
// the place is in as well.
func setBefore(text string, at int, expr string) bool {
	start := strings.LastIndex(text[:at], "\n{")
	if start < 0 || strings.HasSuffix(text[:at], "&") || strings.Contains(text[start:at], "\n}") {
		return false
	}
	store := regexp.MustCompile(regexp.QuoteMeta(expr) + `\s*=[^=]`)
	for _, s := range store.FindAllStringIndex(text[start:at], -1) {
		from := start + s[0]
		if !begun.MatchString(text[start:from]) {
			continue
		}
		depth, inside := 0, true
		for _, c := range text[from:at] {
			switch c {
			case '{':
				depth++
			case '}':
				depth--
				inside = inside && depth >= 0
			}
		}
		// what can be jumped to from before the store is not behind it
		if inside && !label.MatchString(text[from:at]) {
			return true
		}
	}
	return false
}

// keepInits puts the statements back that set up a lock which the fix removes,
// into the new source, where they were: objects that new code makes hold a
// lock that old code can take. It is false when one of them has no place there any more.
func keepInits(old, new []byte, member string) (text []byte, kept int, ok bool) {
	init := regexp.MustCompile(`^\s*(mutex_init|spin_lock_init|raw_spin_lock_init|rwlock_init|init_rwsem)\(&[\w.>\-\[\]]*(->|\.)` + regexp.QuoteMeta(member) + `\);\s*$`)
	if bytes.Equal(old, new) {
		return new, 0, true
	}
	parsed, err := fix.Parse("inits", fix.Unified("f", old, new))
	if err != nil || len(parsed.Files) != 1 {
		return nil, 0, false
	}
	lines := strings.Split(string(new), "\n")
	added := 0
	for _, h := range parsed.Files[0].Hunks {
		n := h.NewStart - 1 // lines of the new text before this one
		for i, l := range h.Lines {
			if l.Op == '-' && init.MatchString(l.Text) {
				if !follows(h.Lines[:i]) {
					return nil, 0, false
				}
				lines = append(lines[:n+added], append([]string{strings.TrimRight(l.Text, "\n")}, lines[n+added:]...)...)
				added++
			}
			if l.Op != '-' {
				n++
			}
		}
	}
	return []byte(strings.Join(lines, "\n")), added, true
}

// follows reports whether the last of some lines that is not empty, and no
// statement that goes, is in both texts and ends a statement or begins a block.
func follows(lines []fix.Line) bool {
	for i := len(lines) - 1; i >= 0; i-- {
		text := strings.TrimSpace(blankComments(lines[i].Text))
		if text == "" && lines[i].Op != '+' || lines[i].Op == '-' && strings.HasSuffix(text, ";") {
			continue
		}
		return lines[i].Op == ' ' && strings.ContainsAny(text[max(0, len(text)-1):], ";{}")
	}
	return false
}
