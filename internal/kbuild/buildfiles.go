// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// A change of the build is no change of the code, and can't be live. It means
// nothing to a target when all that it touches are objects of options that the
// target's configuration has not set.

// isBuildFile tells a makefile or a Kconfig file.
func isBuildFile(p string) bool {
	base := path.Base(p)
	return base == "Makefile" || base == "Kbuild" || strings.HasPrefix(base, "Makefile.") || strings.HasPrefix(base, "Kbuild.") || isKconfig(p)
}

func isKconfig(p string) bool { return strings.HasPrefix(path.Base(p), "Kconfig") }

// changesNothingOf tells why a change of a build file means nothing to a
// target, "" if it may mean something.
func changesNothingOf(t *kernel.Target, d fix.FileDiff) string {
	switch {
	case onlyComments(d):
		return "only comments of the build change"
	case d.Path == "Makefile" && onlyVersion(d):
		return "only the version of the source changes"
	case t == nil:
		return ""
	}
	old, now, ok := bothStates(t, d)
	config := t.Config()
	switch {
	case isKconfig(d.Path) && ok && kconfigStands(config, old, now, readSource(t)):
		return "the configuration of this target is the same with it"
	case !isKconfig(d.Path) && (onlyUnset(config, d) || ok && strings.Contains(d.Path, "/") && makesNothing(config, old) && makesNothing(config, now)):
		return "it is about options that this configuration has not set"
	}
	return ""
}

// bothStates are a file as the target has it and as the diff leaves it.
func bothStates(t *kernel.Target, d fix.FileDiff) (old, now string, ok bool) {
	one := fix.Fix{Files: []fix.FileDiff{d}}
	changes, err := one.Apply(readSource(t))
	if err != nil || len(changes) != 1 {
		return "", "", false
	}
	return string(changes[0].Old), string(changes[0].New), true
}

// assignsTo is a line of a makefile that adds plain words to a list which an
// option chooses: obj-$(CONFIG_X) += x.o, x-$(CONFIG_X) := y.o.
var assignsTo = regexp.MustCompile(`^\s*[A-Za-z0-9_.-]+-\$[({](CONFIG_\w+)[)}]\s*[:+?]?=[^$\\]*$`)

// onlyUnset tells whether every changed line of a makefile adds to lists of
// options that are not set: kbuild reads obj-y and obj-m, not obj-.
func onlyUnset(config kernel.Config, d fix.FileDiff) bool {
	return everyChange(d, func(l string) bool {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' && !strings.HasSuffix(l, `\`) {
			return true
		}
		m := assignsTo.FindStringSubmatch(l)
		return m != nil && config[m[1]] == ""
	})
}

// makesNothing tells whether a makefile is one of objects of options that are
// not set, and of nothing else: how these would be made is of no interest then.
func makesNothing(config kernel.Config, text string) bool {
	text = strings.ReplaceAll(text, "\\\n", " ")
	unset := make(map[string]bool) // lists of what objects of such options are linked from
	for line := range strings.Lines(text) {
		if m := assignsTo.FindStringSubmatch(line); m != nil && config[m[1]] == "" && strings.HasPrefix(strings.TrimSpace(line), "obj-$") {
			for _, o := range madeOf(line) {
				unset[strings.TrimSuffix(o, ".o")+"-y"] = true
			}
		}
	}
	for _, list := range []string{"obj", "lib", "extra", "always", "subdir", "hostprogs"} {
		delete(unset, list+"-y") // kbuild's own
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if m := assignsTo.FindStringSubmatch(line); m != nil && config[m[1]] == "" {
			continue
		}
		// What a module that is not built is linked of, and the flags for it.
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimRight(name, ":+? \t")
		plain := strings.HasSuffix(name, "-objs") || unset[name] || name == "ccflags-y" || strings.HasPrefix(name, "CFLAGS_")
		if !ok || !plain || strings.Contains(value, "$(shell") || strings.Contains(value, "$(eval") {
			return false
		}
	}
	return true
}

// madeOf lists the objects and directories that a line of a makefile names.
func madeOf(line string) (out []string) {
	if _, value, ok := strings.Cut(line, "="); ok {
		line = value
	}
	for _, w := range strings.Fields(line) {
		if strings.HasSuffix(w, ".o") || strings.HasSuffix(w, "/") {
			out = append(out, w)
		}
	}
	return out
}

// comesAndGoes says what objects and directories a change of a makefile adds
// and takes away, "" if it changes something else.
func comesAndGoes(d fix.FileDiff) string {
	count := make(map[string]int)
	for _, h := range d.Hunks {
		for _, l := range h.Lines {
			for _, o := range madeOf(l.Text) {
				switch l.Op {
				case '+':
					count[o]++
				case '-':
					count[o]--
				}
			}
		}
	}
	var come, gone []string
	for _, o := range slices.Sorted(maps.Keys(count)) {
		switch {
		case count[o] > 0:
			come = append(come, o)
		case count[o] < 0:
			gone = append(gone, o)
		}
	}
	var out []string
	if len(come) > 0 {
		out = append(out, "it adds "+strings.Join(come, ", "))
	}
	if len(gone) > 0 {
		out = append(out, "it takes "+strings.Join(gone, ", ")+" away")
	}
	return strings.Join(out, "; ")
}

// kconfigStands tells whether the target's configuration is one that the
// changed Kconfig file gives as well. An option that is set stays what it is
// when nothing new is asked for it that the configuration does not have; one
// that is not set stays so when it has no default. What it can't judge is no.
func kconfigStands(config kernel.Config, old, now string, read func(string) ([]byte, error)) bool {
	was, is := parseKconfig(old), parseKconfig(now)
	if was == nil || is == nil {
		return false
	}
	removed, added := changedLines(was.structure, is.structure)
	for _, l := range added {
		if w := firstWord(l); w != "source" && w != "menu" && w != "endmenu" && w != "comment" {
			return false
		}
	}
	for _, l := range removed {
		switch firstWord(l) {
		case "menu", "endmenu", "comment":
		case "source":
			b, err := read(strings.Trim(strings.TrimSpace(strings.TrimPrefix(l, "source")), `"`))
			if err != nil || !noneSet(config, string(b)) {
				return false
			}
		default:
			return false
		}
	}
	for option := range union(was.options, is.options) {
		less, more := changedLines(was.options[option], is.options[option])
		if len(less)+len(more) == 0 {
			continue
		}
		value := config["CONFIG_"+option]
		gone := is.options[option] == nil
		switch {
		case value == "" && !gone && hasDefault(is.options[option]) && !onlySelects(slices.Concat(less, more)):
			return false
		case value == "":
		case gone:
			return false
		default:
			for _, l := range less {
				if firstWord(l) != "depends" {
					return false
				}
			}
			for _, l := range more {
				if !satisfied(config, value, l) {
					return false
				}
			}
		}
	}
	return true
}

// satisfied tells whether a configuration that has an option set to a value
// needs no change when a line is added to the option.
func satisfied(config kernel.Config, value, line string) bool {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "select", "imply":
		name, _, _ := strings.Cut(rest, " ")
		has := config["CONFIG_"+name]
		return has == "y" || has == "m" && value == "m"
	case "depends":
		expression, ok := strings.CutPrefix(rest, "on ")
		for term := range strings.SplitSeq(expression, "&&") {
			term = strings.TrimSpace(term)
			name, not := strings.CutPrefix(term, "!")
			if firstWord(name) != name || name == "" {
				return false
			}
			has := config["CONFIG_"+name]
			ok = ok && (not && has == "" || !not && (has == "y" || has == "m" && value == "m"))
		}
		return ok
	}
	return false
}

// hasDefault tells whether an option that nobody sets may be on.
func hasDefault(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "def_") && l != "def_bool n" || strings.HasPrefix(l, "default ") && l != "default n"
	})
}

// onlySelects tells whether lines say nothing of whether their own option is on.
func onlySelects(lines []string) bool {
	return !slices.ContainsFunc(lines, func(l string) bool { return firstWord(l) != "select" && firstWord(l) != "imply" })
}

func noneSet(config kernel.Config, text string) bool {
	k := parseKconfig(text)
	if k == nil || slices.ContainsFunc(k.structure, func(l string) bool { return firstWord(l) == "source" }) {
		return false
	}
	for option := range k.options {
		if config["CONFIG_"+option] != "" {
			return false
		}
	}
	return true
}
