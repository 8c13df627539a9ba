// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"slices"
	"strings"
)

// recorded is what a .cmd file tells about an object.
type recorded struct {
	Compiler []string // the compiler with its arguments
	Objtool  []string // the objtool run on the object afterwards, or nil
}

// Bounds: the longest command of Debian's kernels has 6 kB.
const (
	maxCmdFile = 4 << 20
	maxArgs    = 4096
)

// parseCmd reads the .cmd file of an object. Its first line assigns the
// command that made the object to cmd_OBJECT (up to 6.2) or savedcmd_OBJECT.
func parseCmd(b []byte, object string) (*recorded, error) {
	if len(b) > maxCmdFile {
		return nil, fmt.Errorf("%d bytes long", len(b))
	}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " := ")
		if !ok || name != "cmd_"+object && name != "savedcmd_"+object {
			continue
		}
		// make-cmd in scripts/Kbuild.include doubles $ and writes $(pound) for #.
		value = strings.NewReplacer("$$", "$", "$(pound)", "#").Replace(value)
		commands, err := shellCommands(value)
		if err != nil {
			return nil, err
		}
		return classify(commands, object)
	}
	return nil, fmt.Errorf("no command of %s in it", object)
}

func classify(commands [][]string, object string) (*recorded, error) {
	var r recorded
	for i, c := range commands {
		switch {
		case i == 0 && (slices.Contains(c, "-c") || slices.Contains(c, "-E")) && slices.Contains(c, object):
			r.Compiler = c
		case i > 0 && r.Objtool == nil && strings.HasSuffix(c[0], "/objtool") && c[len(c)-1] == object:
			r.Objtool = c
		default:
			return nil, fmt.Errorf("command %d is not known: %.80q", i+1, strings.Join(c, " "))
		}
	}
	if r.Compiler == nil {
		return nil, fmt.Errorf("no compiler command of %s", object)
	}
	return &r, nil
}

// shellCommands splits a command line as sh(1) does: words, quotes, and ; or
// && between commands. What would need a shell to understand is an error.
func shellCommands(s string) ([][]string, error) {
	var commands [][]string
	var words []string
	var word strings.Builder
	inWord := false
	n := 0
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			n++
		}
		word.Reset()
		inWord = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for i := 0; i < len(s); i++ {
		if n > maxArgs {
			return nil, fmt.Errorf("more than %d words", maxArgs)
		}
		switch c := s[i]; c {
		case ' ', '\t':
			endWord()
		case ';':
			endCommand()
		case '&':
			if i+1 >= len(s) || s[i+1] != '&' {
				return nil, fmt.Errorf("byte %d: a command in the background", i)
			}
			i++
			endCommand()
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("byte %d: quote without end", i)
			}
			word.WriteString(s[i+1 : i+1+end])
			inWord = true
			i += 1 + end
		case '"':
			inWord = true
			for i++; ; i++ {
				if i >= len(s) {
					return nil, fmt.Errorf("quote without end")
				}
				if s[i] == '"' {
					break
				}
				if s[i] == '$' || s[i] == '`' {
					return nil, fmt.Errorf("byte %d: an expansion", i)
				}
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
		case '\\':
			if i+1 >= len(s) {
				return nil, fmt.Errorf("backslash at the end")
			}
			i++
			word.WriteByte(s[i])
			inWord = true
		case '#':
			if !inWord {
				return nil, fmt.Errorf("byte %d: a comment", i)
			}
			word.WriteByte(c)
		case '$', '`', '|', '<', '>', '(', ')', '{', '}', '*', '?', '\n':
			return nil, fmt.Errorf("byte %d: %q would need a shell", i, c)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	endCommand()
	if len(commands) == 0 {
		return nil, fmt.Errorf("no command")
	}
	return commands, nil
}

// paths says where a command that is replayed reads and writes.
type paths struct {
	object         string   // as the command names it, relative to the build directory
	out            string   // where the object goes
	source         string   // directory of the source as the command names it; "" if relative
	workspace      string   // read instead of source, "" for source itself
	extra          []string // arguments added to the compiler's
	includes       []string // directories searched in addition
	dependencies   string   // file for make's dependencies, "" for none
	preprocessOnly bool     // write preprocessed text to out instead of an object
}

// compiler returns the compiler command with the paths changed.
func (r *recorded) compiler(p paths) []string {
	var args []string
	for i := 0; i < len(r.Compiler); i++ {
		a := r.Compiler[i]
		switch {
		case strings.HasPrefix(a, "-Wp,-MMD,"), strings.HasPrefix(a, "-Wp,-MD,"):
			continue // for the name that kbuild gave it
		case a == "-c":
			if p.preprocessOnly {
				a = "-E"
			}
		case a == "-o" && i+1 < len(r.Compiler):
			args = append(args, "-o")
			i++
			a = p.out
		case debugFormat(a) && slices.Contains(p.extra, typeInformation):
			continue // or DWARF would come beside BTF
		default:
			a = p.move(a)
		}
		args = append(args, a)
	}
	source := args[len(args)-1] // kbuild writes the source last
	args = args[:len(args)-1]
	args = append(args, p.extra...)
	if p.dependencies != "" {
		args = append(args, "-MMD", "-MF", p.dependencies)
	}
	for _, d := range p.includes {
		args = append(args, "-I"+d)
	}
	return append(args, source)
}

// debugFormat reports whether an argument asks for debug information.
func debugFormat(arg string) bool {
	return arg == "-g" || strings.HasPrefix(arg, "-gdwarf") || len(arg) == 3 && strings.HasPrefix(arg, "-g") && arg[2] >= '0' && arg[2] <= '3'
}

// objtool returns the objtool command on the new object, or nil.
func (r *recorded) objtool(p paths) []string {
	if r.Objtool == nil {
		return nil
	}
	args := slices.Clone(r.Objtool)
	args[len(args)-1] = p.out
	return args
}

// move replaces the source directory in an argument: as a whole path, behind
// an option letter (-I/src/include) or behind = (-fmacro-prefix-map=/src/=).
func (p paths) move(arg string) string {
	if p.workspace == "" || p.source == "" {
		return arg
	}
	i := strings.Index(arg, p.source)
	if i < 0 {
		return arg
	}
	end := i + len(p.source)
	if end < len(arg) && arg[end] != '/' {
		return arg
	}
	if i > 0 && arg[i-1] != '=' && !(i == 2 && arg[0] == '-') {
		return arg
	}
	return arg[:i] + p.workspace + arg[end:]
}
