// SPDX-License-Identifier: Apache-2.0

package update

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// describe tells what the text of a declaration, without what stands in
// braces, declares.
func describe(text string, body bool) decl {
	text = strings.Join(strings.Fields(text), " ")
	ws := ctext.Words(text)
	d := decl{head: text, static: slices.Contains(ws, "static")}
	if len(ws) == 0 {
		return d
	}
	switch {
	case body:
		d.kind, d.name = function, calledName(text)
	case ws[0] == "typedef":
		d.kind, d.name = aggregate, lastName(text)
	case (ws[0] == "struct" || ws[0] == "union" || ws[0] == "enum") && !strings.ContainsAny(text, "(="):
		if !strings.Contains(text, "{") { // "struct x;" tells nothing, "struct x y;" is a variable
			if len(ws) > 2 {
				d.kind, d.name = variable, lastName(text)
			}
			return d
		}
		d.kind = aggregate
		if len(ws) > 1 {
			d.name = ws[1]
		}
		if len(ws) == 1 || d.name == "" || !strings.Contains(text, d.name+" {") && !strings.Contains(text, d.name+"{") {
			d.name = "" // without a tag
		}
		for _, w := range ctext.Words(afterBrace(text)) {
			if !strings.HasPrefix(w, "__") { // struct x { … } variable;
				d.kind, d.name = variable, w
				break
			}
		}
	case hasAssignment(text):
		d.kind, d.name = variable, lastName(text[:strings.IndexByte(text, '=')])
	case slices.ContainsFunc([]string{"MODULE_", "EXPORT_", "module_", "ALLOW_ERROR_INJECTION", "BTF_ID", "NOKPROBE_SYMBOL", "ACPI_MODULE_NAME"}, func(p string) bool {
		return strings.HasPrefix(text, p)
	}): // says something of a name, and declares none
	case strings.Contains(text, "("):
		d.kind, d.name = prototype, calledName(text)
	default:
		d.kind, d.name = variable, lastName(text)
	}
	return d
}

func afterBrace(text string) string {
	_, rest, _ := strings.Cut(text, "}")
	return rest
}

// calledName is the name in front of the first parenthesis that is not an
// attribute's, or, for a macro that defines something (SYSCALL_DEFINE3(name,
// …), EXPORT_SYMBOL(name)), its first argument.
func calledName(text string) string {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '(':
			if args := ctext.Words(text[i:]); depth == 0 && len(args) > 0 && strings.HasPrefix(strings.TrimLeft(text[i+1:], " "), "*") {
				return args[0] // int (*name)(int)
			}
			if depth == 0 {
				before := strings.TrimRight(text[:i], " ")
				j := len(before)
				for j > 0 && ctext.IsWord(before[j-1]) {
					j--
				}
				w := before[j:]
				switch {
				case w == "__attribute__", w == "__aligned", w == "__section", w == "typeof", w == "__typeof__", w == "__printf", w == "__acquires",
					w == "__releases", w == "__must_hold", w == "__counted_by", w == "__assume_aligned", w == "_Alignas", w == "":
				case len(ctext.Words(text[:j])) == 0 && w == strings.ToUpper(w):
					if args := ctext.Words(text[i:]); len(args) > 0 {
						return args[0]
					}
					return w
				default:
					return w
				}
			}
			depth++
		case ')':
			depth--
		}
	}
	return ""
}

// lastName is the name that a declaration without initialiser ends in, in
// front of array bounds, bit widths and attributes.
func lastName(text string) string {
	if k := strings.IndexAny(text, "[:"); k > 0 {
		text = text[:k]
	}
	if k := strings.Index(text, "(*"); k >= 0 {
		if ws := ctext.Words(text[k:]); len(ws) > 0 {
			return ws[0]
		}
	}
	ws := ctext.Words(text)
	for i := len(ws) - 1; i >= 0; i-- {
		if !strings.HasPrefix(ws[i], "__") || i == 1 {
			return ws[i]
		}
	}
	return ""
}

// member is one member of a struct or union, or an enumerator.
type member struct {
	text     string // what users depend on
	from, to int    // lines [from, to)
}

// members lists what is declared inside of the braces of a struct, union or
// enum, by name.
func members(lines []string, d decl) map[string]member {
	out := make(map[string]member)
	var text strings.Builder
	var starts []int // offsets of the lines from d.from on
	comment := false
	for i := d.from; i < d.to; i++ {
		starts = append(starts, text.Len())
		l := lines[i]
		if strings.HasPrefix(strings.TrimLeft(l, " \t"), "#") {
			continue
		}
		l, comment = withoutComments(l, comment)
		text.WriteString(strings.TrimRight(l, "\r\n") + " ")
	}
	body := text.String()
	lineOf := func(offset int) int {
		i, found := slices.BinarySearch(starts, offset)
		for found && i+1 < len(starts) && starts[i+1] == offset { // lines that are blank here
			i++
		}
		if !found {
			i--
		}
		return d.from + i
	}
	open := strings.IndexByte(body, '{')
	if open < 0 {
		return out
	}
	enum := slices.Contains(ctext.Words(body[:open]), "enum")
	parens, from := 0, open+1
	for i := open + 1; i < len(body); i++ {
		switch c := body[i]; c {
		case '(':
			parens++
		case ')':
			parens--
		case '{':
			from = i + 1
		case ';', ',', '}':
			if parens > 0 || c == ',' && !enum && !strings.ContainsAny(body[from:i], " \t") {
				continue
			}
			part := strings.Join(strings.Fields(body[from:i]), " ")
			if name := memberName(part, enum); name != "" {
				first := from + len(body[from:i]) - len(strings.TrimLeft(body[from:i], " \t"))
				out[name] = member{text: part, from: lineOf(first), to: lineOf(i) + 1}
			}
			from = i + 1
		}
	}
	return out
}

func memberName(part string, enum bool) string {
	ws := ctext.Words(part)
	switch {
	case len(ws) == 0:
		return ""
	case enum:
		return ws[0]
	case strings.Contains(part, "(*"):
		if ws = ctext.Words(part[strings.Index(part, "(*"):]); len(ws) > 0 {
			return ws[0]
		}
		return ""
	case strings.IndexByte(part, '(') > 0: // DECLARE_BITMAP(name, n)
		if ws = ctext.Words(part[strings.IndexByte(part, '('):]); len(ws) > 0 {
			return ws[0]
		}
		return ""
	}
	return lastName(part)
}

// withoutComments blanks the comments of a line.
func withoutComments(l string, open bool) (string, bool) {
	if !open && !strings.Contains(l, "/") {
		return l, false
	}
	var b strings.Builder
	var quote byte
	for i := 0; i < len(l); i++ {
		two := l[i:min(i+2, len(l))]
		switch {
		case !open && quote != 0:
			if l[i] == '\\' && i+1 < len(l) {
				b.WriteByte(l[i])
				i++
			} else if l[i] == quote {
				quote = 0
			}
			b.WriteByte(l[i])
		case !open && (l[i] == '"' || l[i] == '\''):
			quote = l[i]
			b.WriteByte(l[i])
		case open && two == "*/":
			open = false
			i++
			b.WriteByte(' ')
		case open:
		case two == "/*":
			open = true
			i++
		case two == "//":
			return b.String(), false
		default:
			b.WriteByte(l[i])
		}
	}
	return b.String(), open
}
