// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
)

// kconfig is what a Kconfig file says, line by line, without help and prompts'
// order (Documentation/kbuild/kconfig-language.rst).
type kconfig struct {
	options   map[string][]string // of each option the lines below it
	structure []string            // all other lines: menus, conditions, files
}

// parseKconfig cuts a Kconfig file. It returns nil when it can't.
func parseKconfig(text string) *kconfig {
	k := &kconfig{options: make(map[string][]string)}
	option, help := "", -1 // help: its indentation, 0 until its first line is there
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		l := strings.Join(strings.Fields(line), " ")
		if l == "" {
			continue
		}
		indent := indentation(line)
		if help == 0 && indent > 0 {
			help = indent
		}
		if help > 0 && indent >= help {
			continue
		}
		help = -1
		if l[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(l, " ")
		switch word {
		case "config", "menuconfig":
			if option = rest; firstWord(rest) != rest || rest == "" {
				return nil
			}
			if k.options[option] == nil {
				k.options[option] = []string{}
			}
		case "help", "---help---":
			help = 0
		case "source", "menu", "endmenu", "if", "endif", "choice", "endchoice", "comment", "mainmenu", "visible":
			option = ""
			k.structure = append(k.structure, l)
		default:
			if option == "" {
				k.structure = append(k.structure, l)
			} else {
				k.options[option] = append(k.options[option], l)
			}
		}
	}
	return k
}

// indentation counts columns before the text of a line, with tabs of eight.
func indentation(line string) int {
	n := 0
	for _, c := range line {
		switch c {
		case '\t':
			n += 8 - n%8
		case ' ':
			n++
		default:
			return n
		}
	}
	return n
}

// changedLines are the lines of a that b has not, and the other way round.
func changedLines(a, b []string) (removed, added []string) {
	added = slices.Clone(b)
	for _, l := range a {
		if i := slices.Index(added, l); i >= 0 {
			added = slices.Delete(added, i, i+1)
		} else {
			removed = append(removed, l)
		}
	}
	return removed, added
}

func union[V any](a, b map[string]V) map[string]bool {
	all := make(map[string]bool)
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}
