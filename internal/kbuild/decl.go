// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// decl is one declaration, definition or directive of a header as it is
// written, with what can be said of it without compiling: which names it
// brings, and so who can notice when it changes.
type decl struct {
	kind  declKind
	text  string // white space made even, with conditionals inside of it
	under string // conditionals around it
	names []name // that it brings
}

// name is a word that a declaration brings, and what it is a name of.
type name struct {
	word string
	kind nameKind
}

type nameKind uint8

const (
	plainName  nameKind = iota // function, variable, macro, constant
	tagName                    // of a struct, union or enum: it stands behind that word
	typeName                   // of a typedef
	memberName                 // of a struct's or union's member
	macroName                  // of a macro, like plainName
)

func named(kind nameKind, words ...string) []name {
	out := make([]name, len(words))
	for i, w := range words {
		out[i] = name{w, kind}
	}
	return out
}

type declKind uint8

const (
	opaque      declKind = iota // nothing is known of it: whoever includes it may notice
	inert                       // nobody can notice: static_assert, a struct's mere name
	macroDecl                   // #define, #undef
	includeDecl                 // #include
	protoDecl                   // a function's declaration
	inlineDecl                  // a static inline function
	typeDecl                    // struct or union with its members, typedef
	enumDecl                    // enum with its constants
	varDecl                     // extern or static variable
)

// declarations cuts a header. What it cannot understand is opaque; it never
// gives a declaration fewer names than it brings.
func declarations(header []byte) []decl {
	var s declScanner
	lines := slices.Collect(strings.Lines(string(withoutComments(header))))
	for i := 0; i < len(lines); i++ {
		l := strings.TrimSpace(lines[i])
		if !strings.HasPrefix(l, "#") {
			s.code(lines[i])
			continue
		}
		for strings.HasSuffix(l, `\`) && i+1 < len(lines) {
			i++
			l = strings.TrimSuffix(l, `\`) + " " + strings.TrimSpace(lines[i])
		}
		s.directive(strings.Join(strings.Fields("# "+strings.TrimSpace(l[1:])), " "))
	}
	if strings.TrimSpace(s.text.String()) != "" {
		s.end()
		d := &s.out[len(s.out)-1]
		d.kind, d.names = opaque, nil
	}
	return s.out
}

type declScanner struct {
	out            []decl
	text           strings.Builder
	braces, parens int
	conds          []cond
}

// cond is a conditional that is open.
type cond struct {
	text   string
	before [2]int // braces and parentheses where it began
	first  *[2]int
}

func (s *declScanner) under() string {
	var b strings.Builder
	for _, c := range s.conds {
		b.WriteString(c.text)
		b.WriteByte(';')
	}
	return b.String()
}

func (s *declScanner) directive(l string) {
	word, rest, _ := strings.Cut(strings.TrimPrefix(l, "# "), " ")
	n := len(s.conds)
	switch word {
	case "if", "ifdef", "ifndef":
		s.conds = append(s.conds, cond{text: l, before: [2]int{s.braces, s.parens}})
	case "elif", "else":
		if n == 0 {
			s.emit(decl{text: l})
			return
		}
		c := &s.conds[n-1]
		if c.first == nil { // braces of the branches are alternatives: the first one's count
			c.first = &[2]int{s.braces, s.parens}
		}
		s.braces, s.parens = c.before[0], c.before[1]
		c.text += l
	case "endif":
		if n == 0 {
			s.emit(decl{text: l})
			return
		}
		if f := s.conds[n-1].first; f != nil {
			s.braces, s.parens = f[0], f[1]
		}
		s.conds = s.conds[:n-1]
	case "define", "undef":
		word := firstWord(rest)
		d := decl{kind: macroDecl, text: l, under: s.under(), names: named(macroName, word)}
		if word == "" {
			d.kind, d.names = opaque, nil
		}
		s.emit(d)
		return
	case "include":
		s.emit(decl{kind: includeDecl, text: l, under: s.under()})
		return
	case "error", "warning":
		s.emit(decl{kind: inert, text: l, under: s.under()})
		return
	default:
		s.emit(decl{text: l, under: s.under()})
		return
	}
	if s.text.Len() > 0 && strings.Contains(l+s.under(), "__ASSEMBL") {
		s.end() // between assembly and C
		s.out[len(s.out)-1].kind = opaque
		return
	}
	if s.text.Len() > 0 { // inside of a declaration
		s.text.WriteString(" " + condMark + l + condMark + " ")
	}
}

// condMark is around a conditional in the text of a declaration.
const condMark = "\x01"

func (s *declScanner) emit(d decl) { s.out = append(s.out, d) }

func (s *declScanner) code(line string) {
	for i := 0; i < len(line); i++ {
		c := line[i]
		if strings.IndexByte(" \t\n\r\f\v", c) >= 0 {
			if s.text.Len() > 0 {
				s.text.WriteByte(' ')
			}
			continue
		}
		s.text.WriteByte(c)
		switch c {
		case '"', '\'':
			for i++; i < len(line); i++ {
				s.text.WriteByte(line[i])
				if line[i] == '\\' && i+1 < len(line) {
					i++
					s.text.WriteByte(line[i])
				} else if line[i] == c {
					break
				}
			}
		case '(':
			s.parens++
		case ')':
			s.parens--
		case '{':
			s.braces++
		case '}':
			if s.braces--; s.braces <= 0 && s.parens <= 0 && isBody(s.text.String()) {
				s.end()
			}
		case ';':
			if s.braces <= 0 && s.parens <= 0 {
				s.end()
			}
		}
	}
}

// end closes a declaration.
func (s *declScanner) end() {
	d := decl{text: strings.Join(strings.Fields(s.text.String()), " "), under: s.under()}
	s.text.Reset()
	s.braces, s.parens = 0, 0
	d.classify()
	s.emit(d)
}

// head is a declaration up to its first brace, without conditionals.
func head(text string) string {
	h, _, _ := strings.Cut(withoutConds(text), "{")
	return strings.TrimSpace(h)
}

func withoutConds(text string) string {
	parts := strings.Split(text, condMark)
	if len(parts) == 1 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		b.WriteString(parts[i])
		b.WriteByte(' ')
	}
	return b.String()
}

// isBody tells the closing brace of a function, behind which a declaration
// ends, from that of a type or an initializer, which ends with a semicolon.
func isBody(text string) bool {
	h := tokens(head(text))
	if len(h) == 0 || slices.Contains(h, "=") || h[0] == "typedef" {
		return false
	}
	return slices.Contains(withoutAttributes(h), "(")
}

func isAggregate(w string) bool { return w == "struct" || w == "union" || w == "enum" }

// tokens cuts C text: words, literals, and every other character alone.
func tokens(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		c := s[i]
		j := i + 1
		switch {
		case c == ' ':
			i = j
			continue
		case ctext.IsWord(c):
			for j < len(s) && ctext.IsWord(s[j]) {
				j++
			}
		case c == '"' || c == '\'':
			for j < len(s) && s[j] != c {
				if s[j] == '\\' {
					j++
				}
				j++
			}
			j = min(j+1, len(s))
		}
		out = append(out, s[i:j])
		i = j
	}
	return out
}

// attributes are words that may stand in a declaration and name nothing.
func isAttribute(w string) bool {
	switch w {
	case "__attribute__", "__attribute", "__printf", "__scanf", "__acquires", "__releases", "__must_hold",
		"__cond_acquires", "__aligned", "__packed", "__section", "__alloc_size", "__assume_aligned", "__malloc",
		"__nonnull", "__rcu", "__user", "__iomem", "__percpu", "__force", "__kernel", "__safe", "__must_check",
		"____cacheline_aligned", "____cacheline_aligned_in_smp", "__cacheline_aligned", "__cacheline_aligned_in_smp",
		"____cacheline_internodealigned_in_smp", "__read_mostly", "__ro_after_init", "__randomize_layout",
		"__no_randomize_layout", "__designated_init", "__counted_by", "__maybe_unused", "__always_unused",
		"__deprecated", "__weak", "__pure", "__attribute_const__", "__cold", "__hot", "__init", "__exit",
		"__latent_entropy", "__bitwise", "__noreturn", "__visible", "__private", "__nocast", "__sched",
		"notrace", "noinline", "noinstr", "asmlinkage", "__visible_for_testing", "__meminit", "__net_init",
		"__alias", "__realloc_size", "__returns_nonnull", "__no_sanitize_address", "__initdata", "__refdata",
		"__nonstring", "__kprobes", "__used", "__unused":
		return true
	}
	return false
}

func isKeyword(w string) bool {
	switch w {
	case "const", "volatile", "static", "inline", "__inline", "__inline__", "__always_inline", "extern", "register",
		"struct", "union", "enum", "typedef", "int", "char", "long", "short", "unsigned", "signed", "void", "float",
		"double", "_Bool", "bool", "__extension__", "restrict", "__restrict", "sizeof", "typeof", "__typeof__",
		"__signed__", "__const", "__volatile__", "auto", "_Alignas", "_Noreturn", "asm", "__asm__", "__asm":
		return true
	}
	return false
}

// withoutAttributes drops attributes with their arguments.
func withoutAttributes(toks []string) []string {
	var out []string
	for i := 0; i < len(toks); i++ {
		if !isAttribute(toks[i]) {
			out = append(out, toks[i])
			continue
		}
		if i+1 < len(toks) && toks[i+1] == "(" {
			i = closing(toks, i+1)
		}
	}
	return out
}

// closing finds the token that closes the bracket at i.
func closing(toks []string, i int) int {
	depth := 0
	for ; i < len(toks); i++ {
		switch toks[i] {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(toks) - 1
}

func isName(t string) bool {
	return t != "" && ctext.IsWord(t[0]) && (t[0] < '0' || t[0] > '9') && !isKeyword(t)
}
