// SPDX-License-Identifier: Apache-2.0

package insn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// listed is one instruction as objdump shows it.
type listed struct {
	section string
	addr    uint64
	bytes   []byte
	text    string
	bad     bool
}

// objdump runs binutils' disassembler and calls visit for each instruction.
func objdump(t testing.TB, visit func(listed), args ...string) {
	t.Helper()
	tool := need.Program(t, "objdump")
	cmd := exec.CommandContext(t.Context(), tool, append([]string{"-w", "-z"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	readListing(t, out, visit)
	qt.Assert(t, qt.IsNil(cmd.Wait()), qt.Commentf("%s", stderr.String()))
}

func readListing(t testing.TB, r io.Reader, visit func(listed)) {
	t.Helper()
	section := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "Disassembly of section "); ok {
			section = strings.TrimSuffix(rest, ":")
			continue
		}
		part := strings.SplitN(line, "\t", 3)
		if len(part) < 2 || !strings.HasSuffix(part[0], ":") {
			continue
		}
		addr, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(part[0]), ":"), 16, 64)
		if err != nil {
			continue
		}
		l := listed{section: section, addr: addr}
		for h := range strings.FieldsSeq(part[1]) {
			b, err := strconv.ParseUint(h, 16, 8)
			if err != nil {
				t.Fatalf("objdump printed %q", line)
			}
			l.bytes = append(l.bytes, byte(b))
		}
		if len(part) == 3 {
			l.text = part[2]
		}
		l.bad = l.text == "" || strings.Contains(l.text, "(bad)") || strings.HasPrefix(l.text, ".byte")
		visit(l)
	}
	qt.Assert(t, qt.IsNil(lines.Err()))
}

// tally collects disagreements with objdump.
type tally struct {
	total, wrong, unknown int
	shown                 []string
}

// check compares one line. objdump takes an fwait and the x87 instruction
// after it as one; the processor does not.
func (c *tally) check(file string, l listed) {
	if l.bad || len(l.bytes) == 0 {
		return
	}
	c.total++
	code := l.bytes
	for code[0] == 0x9b && len(code) > 1 {
		code = code[1:]
	}
	in, err := Decode(code)
	switch {
	case err != nil:
		c.unknown++
	case in.Len != len(code):
		c.wrong++
	default:
		return
	}
	if len(c.shown) < 40 {
		c.shown = append(c.shown, fmt.Sprintf("%s %s+%#x: % x: %s: Len %d, %v", file, l.section, l.addr, l.bytes, l.text, in.Len, err))
	}
}

func (c *tally) report(t testing.TB) {
	t.Helper()
	t.Logf("%d instructions, %d wrong lengths, %d unknown", c.total, c.wrong, c.unknown)
	for _, s := range c.shown {
		t.Error(s)
	}
	qt.Check(t, qt.Equals(c.wrong+c.unknown, 0))
	qt.Check(t, qt.IsTrue(c.total > 0))
}

// slot is the room of one made-up instruction; the rest of it are nops, so
// that objdump is back in step at the next.
const slot = 16

var narrowBranch = regexp.MustCompile(`\b(callw|jmpw|xbeginw)\b`)

// refused tells the forms that objdump prints and Decode refuses on purpose.
func refused(l listed) bool {
	const segments = "\x26\x2e\x36\x3e\x64\x65"
	code := bytes.TrimLeft(l.bytes, segments)
	switch {
	case len(code) == 0, bytes.HasSuffix(code, []byte{0x48}):
		return true // prefixes cut off from what they stand before
	case code[0] == 0x66 && strings.ContainsAny(l.text, "j") || narrowBranch.MatchString(l.text):
		return true // AMD and Intel disagree about the length
	case strings.Contains(l.text, "%?") || strings.Contains(l.text, ",%cs"):
		return true // undefined segment registers
	case bytes.Contains(code, []byte{0x8f}) && code[0] != 0x8f:
		return true // XOP after prefixes that it does not allow
	}
	return false
}

// TestEveryOpcodeAgreesWithObjdump tries every opcode of every map under the
// prefixes that matter, with each ModRM group and three addressing forms.
func TestEveryOpcodeAgreesWithObjdump(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of thousands of instructions: not with -short")
	}
	var image bytes.Buffer
	add := func(code ...byte) {
		image.Write(code)
		image.Write(bytes.Repeat([]byte{0x90}, slot-len(code)))
	}
	// Instructions of two operands must have no third register, others have one:
	// every other form is tried with one.
	vvvv := func(form int, none, one byte) byte {
		if form%2 == 0 {
			return none
		}
		return one
	}
	modrms := func(yield func(byte)) {
		for reg := range byte(8) {
			yield(0xc0 | reg<<3)     // register
			yield(0xc1 | reg<<3)     // another, for groups that use all eight
			yield(0x05 | reg<<3)     // RIP-relative
			yield(0x44 | reg<<3)     // SIB, disp8
			yield(0x80 | reg<<3 | 3) // disp32
			yield(0x00 | reg<<3 | 7) // no displacement
		}
	}
	for _, prefix := range [][]byte{{}, {0x66}, {0xf2}, {0xf3}, {0x48}, {0x66, 0x48}, {0xf3, 0x48}, {0x67}} {
		for _, escape := range [][]byte{{}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}} {
			for op := range 256 {
				if len(escape) == 0 && (op == 0x9b || op == 0x0f || op == 0xc4 || op == 0xc5 || op == 0x62 || op&0xf0 == 0x40) {
					continue
				}
				modrms(func(m byte) {
					code := append(append([]byte{}, prefix...), escape...)
					add(append(code, byte(op), m)...)
				})
			}
		}
	}
	// Groups in which every register form is an instruction of its own.
	for _, prefix := range [][]byte{{}, {0x66}, {0xf2}, {0xf3}} {
		for m := range 64 {
			for _, op := range [][]byte{{0x0f, 0x00}, {0x0f, 0x01}, {0x0f, 0x1e}, {0x0f, 0xae}, {0x0f, 0xc7}, {0xd9}, {0xdb}, {0xdf}} {
				code := append(append([]byte{}, prefix...), op...)
				add(append(code, 0xc0|byte(m))...)
			}
		}
	}
	for m := range byte(3) {
		for pp := range byte(4) {
			for _, wl := range []byte{0, 4, 0x80, 0x84} {
				for op := range 256 {
					for form, modrm := range []byte{0xc1, 0xd1, 0xf1, 0x05, 0x44, 0x11} {
						add(0xc4, 0xe1+m, wl|vvvv(form, 0x78, 0x68)|pp, byte(op), modrm)
					}
				}
			}
		}
	}
	for _, m := range []byte{1, 2, 3, 5, 6} {
		for pp := range byte(4) {
			for _, w := range []byte{0, 0x80} {
				for _, p2 := range []byte{0x08, 0x28, 0x48, 0x09, 0x49} {
					for op := range 256 {
						for form, modrm := range []byte{0xc1, 0xd1, 0xf1, 0x05, 0x44} {
							add(0x62, 0xf0|m, w|vvvv(form, 0x7c, 0x74)|pp, p2, byte(op), modrm)
						}
					}
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), "opcodes")
	qt.Assert(t, qt.IsNil(os.WriteFile(file, image.Bytes(), 0o600)))
	var c tally
	objdump(t, func(l listed) {
		if l.addr%slot == 0 && !refused(l) {
			c.check("opcodes", l)
		}
	}, "-D", "-b", "binary", "-m", "i386:x86-64", file)
	c.report(t)
}

// TestCompiledCodeAgreesWithObjdump compiles a C file for several processors
// and an assembler file of rare instructions.
func TestCompiledCodeAgreesWithObjdump(t *testing.T) {
	t.Parallel()
	gcc := need.Program(t, "gcc")
	for _, c := range []struct{ name, file, flags string }{
		{"plain C as the kernel compiles it", "code.c", "-O2 -mcmodel=kernel -mno-sse -mno-avx -fno-pic"},
		{"with branch tracking and retpolines", "code.c", "-O2 -fcf-protection=branch -mindirect-branch=thunk-extern -mfunction-return=thunk-extern -fpatchable-function-entry=16,16"},
		{"unoptimised", "code.c", "-O0"},
		{"vectors of AVX2", "code.c", "-O3 -mavx2 -mbmi2 -ftree-vectorize"},
		{"vectors of AVX-512", "code.c", "-O3 -march=sapphirerapids -mprefer-vector-width=512"},
		{"vectors of XOP", "code.c", "-O3 -march=bdver4"},
		{"instructions that compilers never choose", "rare.S", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			object := filepath.Join(t.TempDir(), "x.o")
			args := append(strings.Fields(c.flags), "-c", "-o", object, filepath.Join("testdata", c.file))
			out, err := exec.CommandContext(t.Context(), gcc, args...).CombinedOutput()
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			var n tally
			objdump(t, func(l listed) { n.check(c.file, l) }, "-d", object)
			n.report(t)
		})
	}
}

// CompareFiles compares the text of object files with objdump.
func CompareFiles(t *testing.T, files []string) {
	t.Helper()
	var c tally
	for _, f := range files {
		objdump(t, func(l listed) { c.check(filepath.Base(f), l) }, "-d", f)
	}
	c.report(t)
}
