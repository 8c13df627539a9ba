// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// invocation is one recorded run of a compiler or of ar.
type invocation struct {
	dir  string
	argv []string
}

// parseRecord reads what the recorder wrote.
func parseRecord(b []byte) (invocation, error) {
	s, ok := strings.CutSuffix(string(b), "\x00")
	if !ok {
		return invocation{}, errors.New("record: it does not end in a zero byte")
	}
	parts := strings.Split(s, "\x00")
	if len(parts) < 2 || !path.IsAbs(parts[0]) || parts[1] == "" {
		return invocation{}, errors.New("record: no directory or no program")
	}
	return invocation{dir: path.Clean(parts[0]), argv: parts[1:]}, nil
}

// abs makes a name of the invocation absolute.
func (v invocation) abs(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(v.dir, name)
}

// withArgument are options of gcc whose argument may be the next word
// (gcc(1); "-o file" but "-ofile" too).
var withArgument = []string{
	"-o", "-I", "-D", "-U", "-include", "-imacros", "-isystem", "-idirafter", "-iquote", "-iprefix", "-iwithprefix",
	"-iwithprefixbefore", "-isysroot", "-imultilib", "-imultiarch", "-MF", "-MT", "-MQ", "-x", "-L", "-l", "-B", "-T", "-u", "-z",
	"-Xlinker", "-Xassembler", "-Xpreprocessor", "--param", "-aux-info", "-dumpbase", "-dumpbase-ext", "-dumpdir",
	"-wrapper", "-specs", "-A", "-e", "-h", "-R", "--output", "-Ttext", "-Tdata", "-Tbss",
}

var (
	sourceForm = regexp.MustCompile(`\.(c|cc|cp|cxx|cpp|CPP|c\+\+|C|i|ii|S|sx|s)$`)
	objectForm = regexp.MustCompile(`\.(o|os|oS|op|lo|a|obj)$`)
)

// words is a compiler's command line, taken apart.
type words struct {
	inputs  []string
	output  string
	compile bool   // -c
	stops   bool   // -E, -S, -M: no object is made
	lang    string // the last -x
	stdin   bool
}

func readWords(args []string) words {
	var w words
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-":
			w.stdin = true
		case a == "-c":
			w.compile = true
		case a == "-E", a == "-S", a == "-M", a == "-MM", a == "-fsyntax-only":
			w.stops = true
		case slices.Contains(withArgument, a):
			i++
			if i == len(args) {
				break
			}
			switch a {
			case "-o", "--output":
				w.output = args[i]
			case "-x":
				w.lang = args[i]
			}
		case strings.HasPrefix(a, "-o"):
			w.output = a[2:]
		case strings.HasPrefix(a, "-x"):
			w.lang = a[2:]
		case strings.HasPrefix(a, "--output="):
			w.output = strings.TrimPrefix(a, "--output=")
		case strings.HasPrefix(a, "-"), strings.HasPrefix(a, "@"):
		default:
			w.inputs = append(w.inputs, a)
		}
	}
	return w
}

// compileOf gives the compile that an invocation is. ok is false for any other:
// preprocessing, linking, a question of the compiler, several sources at once.
func compileOf(v invocation) (c Command, ok bool) {
	w := readWords(v.argv[1:])
	if !w.compile || w.stops || len(w.inputs) > 1 {
		return Command{}, false
	}
	c = Command{Argv: v.argv, Dir: v.dir}
	switch {
	case len(w.inputs) == 1 && (w.lang != "" || sourceForm.MatchString(w.inputs[0])):
		c.Source = v.abs(w.inputs[0])
	case len(w.inputs) == 0 && w.stdin: // glibc pipes its system call stubs into the assembler
	default:
		return Command{}, false
	}
	out := w.output
	if out == "" {
		if c.Source == "" {
			return Command{}, false
		}
		base := path.Base(c.Source)
		out = strings.TrimSuffix(base, path.Ext(base)) + ".o"
	}
	c.Object = v.abs(out)
	return c, true
}

// linkOf gives the link, or the archiving, that an invocation is.
func linkOf(v invocation) (l Link, ok bool) {
	if base := path.Base(v.argv[0]); base == "ar" || strings.HasSuffix(base, "-ar") {
		return archiving(v)
	}
	w := readWords(v.argv[1:])
	if w.compile || w.stops || w.output == "" {
		return Link{}, false
	}
	l = Link{Argv: v.argv, Dir: v.dir, Output: v.abs(w.output)}
	for _, in := range w.inputs {
		if objectForm.MatchString(in) {
			l.Inputs = append(l.Inputs, v.abs(in))
		}
	}
	return l, len(l.Inputs) > 0
}

// archiving reads a run of ar that puts files into an archive (ar(1)).
func archiving(v invocation) (l Link, ok bool) {
	args := slices.DeleteFunc(slices.Clone(v.argv[1:]), func(a string) bool { return strings.HasPrefix(a, "--") })
	if len(args) < 3 {
		return Link{}, false
	}
	operation := strings.TrimPrefix(args[0], "-")
	if !strings.ContainsAny(operation, "rq") || strings.ContainsAny(operation, "abiN") {
		return Link{}, false
	}
	l = Link{Argv: v.argv, Dir: v.dir, Output: v.abs(args[1])}
	for _, in := range args[2:] {
		l.Inputs = append(l.Inputs, v.abs(in))
	}
	return l, true
}

// parseDatabase reads a JSON compilation database as CMake writes it: an array
// of directory, file, and command as a shell would read it, or arguments.
func parseDatabase(b []byte) ([]Command, error) {
	var entries []struct {
		Directory string
		File      string
		Command   string
		Arguments []string
	}
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("compilation database: %w", err)
	}
	out := make([]Command, 0, len(entries))
	for i, e := range entries {
		argv := e.Arguments
		if len(argv) == 0 {
			var err error
			if argv, err = splitShell(e.Command); err != nil {
				return nil, fmt.Errorf("compilation database: entry %d: %w", i, err)
			}
		}
		if len(argv) == 0 || !path.IsAbs(e.Directory) {
			return nil, fmt.Errorf("compilation database: entry %d: no command or no directory", i)
		}
		if c, ok := compileOf(invocation{path.Clean(e.Directory), argv}); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// splitShell splits a command into words as sh does, as far as build systems
// quote: ' ', " " with \, and \. What would need a shell is refused.
func splitShell(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			word.WriteString(s[i+1 : i+1+end])
			i += end + 1
			in = true
		case '"':
			in = true
			for i++; ; i++ {
				if i >= len(s) {
					return nil, errors.New("a quote is not closed")
				}
				if s[i] == '"' {
					break
				}
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0 {
					i++
				} else if s[i] == '$' || s[i] == '`' {
					return nil, fmt.Errorf("it needs a shell: %.60q", s)
				}
				word.WriteByte(s[i])
			}
		case '\\':
			if i++; i == len(s) {
				return nil, errors.New("it ends in a backslash")
			}
			word.WriteByte(s[i])
			in = true
		case '$', '`', ';', '|', '&', '<', '>', '(', ')':
			return nil, fmt.Errorf("it needs a shell: %.60q", s)
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}
