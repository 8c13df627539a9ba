// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// labelsSource has jump labels of every shape that kernels make: five bytes
// and two, labels that jump while their key is off, one whose target is in a
// cold part, and so near to each other that all branches around them must
// grow. With -DTESTS the same functions read their keys: what they must do.
const labelsSource = `
extern int ext(int); extern void fail(int) __attribute__((cold));
struct key { int count; void *entries; }; struct point { const char *name; struct key key; };
extern struct key own_on, own_off; extern struct point own_point;
#ifdef TESTS
#define LABEL(text, key, branch) (((key)->count != 0) != branch)
#define FN(f) want_##f
#else
#define LABEL(text, key, branch) ({ __label__ yes, out; int taken = 0; \
  asm volatile goto("1: " text "\n.pushsection __jump_table,\"aw\"\n.balign 8\n.long 1b - ., %l[yes] - .\n.quad %c0 + %c1 - .\n.popsection" \
    :: "i"(key), "i"(branch) :: yes); goto out; yes: taken = 1; out: taken; })
#define FN(f) f
#endif
#define NOP5 ".byte 0x0f,0x1f,0x44,0,0"
#define NOP2 ".byte 0x66,0x90"
#define JMP "jmp %l[yes]"
int FN(wide)(int x) { if (LABEL(NOP5, &own_on, 0)) x = ext(x + 1); if (LABEL(NOP5, &own_off, 1)) x ^= 7; return x + EDIT; }
int FN(near)(int x) { if (LABEL(NOP2, &own_on, 0)) x += 5; if (LABEL(NOP2, &own_off, 0)) x ^= 3; if (LABEL(JMP, &own_on, 1)) x *= 3; return ext(x) + EDIT; }
int FN(dense)(int x) {
  int i, sum = 0;
  for (i = 0; i < x; i++) {
    if (i & 1) { sum += i; if (LABEL(NOP2, &own_on, 0)) sum ^= 0x11; sum += ext(i); if (LABEL(NOP2, &own_off, 1)) sum += 9; }
    else if (sum > 40) { if (LABEL(JMP, &own_off, 0)) sum -= 100; if (LABEL(NOP2, &own_point.key, 0)) sum = sum * 2 + 1; }
    if (LABEL(NOP2, &own_on, 1)) sum += EDIT;
    if (LABEL(NOP2, &own_off, 1)) { sum ^= i; if (sum < 0) break; }
    if (LABEL(NOP2, &own_point.key, 1)) sum -= 3;
  }
  return sum;
}
#ifdef TESTS
int FN(back)(int x) { if (LABEL(NOP2, &own_on, 0)) x += 3; x++; if (LABEL(NOP2, &own_off, 0)) x ^= 5; return ext(x) + EDIT; }
#else
int FN(back)(int x) { if (LABEL(NOP2, &own_on, 0)) x += 3; asm volatile goto("jmp 7f\n.pushsection .altinstr_replacement,\"ax\"\n7: jmp %l[out]\n.popsection" :::: out); x--; out: x++; if (LABEL(NOP2, &own_off, 0)) x ^= 5; return ext(x) + EDIT; }
#endif
int FN(cold)(int x) { if (LABEL(JMP, &own_on, 0)) { fail(x); return -1; } return ext(x) + EDIT; }
`

const labelsMain = `
#include <stdio.h>
struct key { int count; void *entries; }; struct point { const char *name; struct key key; };
struct key own_on, own_off; struct point own_point;
int fails;
int ext(int x) { return x * 2 + 1; }
void fail(int x) { fails += x; }
asm(".pushsection .text\n.globl __fentry__\n__fentry__: ret\n.popsection");
#define FNS(F) F(wide) F(near) F(dense) F(back) F(cold)
#define DECLARE(f) int f(int), want_##f(int);
FNS(DECLARE)
int main(void) {
  int k, x, a, b, bad = 0;
  for (k = 0; k < 8; k++) for (x = 0; x < 40; x++) {
    own_on.count = k & 1 ? -1 : 0; own_off.count = k & 2 ? 3 : 0; own_point.key.count = k >> 2;
#define COMPARE(f) fails = 0; a = f(x); a += fails; fails = 0; b = want_##f(x); b += fails; \
    if (a != b) { printf(#f "(%d) with keys %d is %d and not %d\n", x, k, a, b); bad = 1; }
    FNS(COMPARE)
  }
  return bad;
}
`

// ownKeys puts the keys into the module that is patched.
var ownKeys = objdiff.Options{KeyOwner: func(*elfobj.Symbol) objdiff.Owner { return objdiff.OwnerModule }}

// TestLabelsOfAModuleTestTheirKeys runs what a live patch would carry, with
// every key on and off.
func TestLabelsOfAModuleTestTheirKeys(t *testing.T) {
	for _, opt := range []string{"-O2", "-Os"} {
		t.Run(opt, func(t *testing.T) {
			flags := append(slices.Clone(kernelish), opt, "-std=gnu11")
			orig := build(t, labelsSource, append(flags, "-DEDIT=1")...)
			r, err := objdiff.Diff(orig, build(t, labelsSource, append(flags, "-DEDIT=2")...), ownKeys)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(names(r.Changed), []string{"wide", "near", "dense", "back", "cold"}))
			qt.Assert(t, qt.DeepEquals(risks(r), []string{
				"TS8020 back", "TS8020 back", "TS8020 cold", "TS8020 dense", "TS8020 dense", "TS8020 dense", "TS8020 near", "TS8020 near", "TS8020 wide", "TS8020 wide",
			}))
			e := checkExtract(t, r)
			qt.Assert(t, qt.IsNil(e.File.Section("__jump_table")))
			for _, s := range e.File.Symbols {
				if s.Section != nil && s.Type == elf.STT_FUNC { // ftrace finds replaced functions, not the linker
					s.Bind = elf.STB_GLOBAL
				}
			}
			data, err := e.File.Bytes()
			qt.Assert(t, qt.IsNil(err))
			dir := t.TempDir()
			write := func(name string, data []byte) string {
				path := filepath.Join(dir, name)
				qt.Assert(t, qt.IsNil(os.WriteFile(path, data, 0o600)))
				return path
			}
			program := filepath.Join(dir, "program")
			out, err := exec.Command("gcc", "-no-pie", "-z", "noexecstack", "-O1", "-w", "-DTESTS", "-DEDIT=2", "-o", program, write("main.c", []byte(labelsMain)),
				write("want.c", []byte(labelsSource)), write("patch.o", data)).CombinedOutput()
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			out, err = exec.Command(program).CombinedOutput()
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
		})
	}
}

// TestTestsOfKeysUnwindLikeTheirLabels: a task that is interrupted in one has
// to be found by livepatch on its stack.
func TestTestsOfKeysUnwindLikeTheirLabels(t *testing.T) {
	src := `extern int ext(int); extern char own[16];
int f(int x) { asm volatile("push %rbx\n.Lpushed:"); if (x) { asm volatile goto(".Lsite: .byte 0x66,0x90\n.pushsection __jump_table,\"aw\"\n.long .Lsite - ., %l[yes] - .\n.quad own - .\n.popsection" :::: yes); }
  asm volatile("pop %rbx\n.Lpopped:"); return ext(x) + EDIT; yes: asm volatile("pop %rbx"); return 3; }
asm(".pushsection .text.f\n.Lend: .popsection\n.pushsection .orc_unwind_ip,\"a\"\n.long f - ., .Lpushed - ., .Lpopped - ., .Lend - .\n.popsection\n"
  ".pushsection .orc_unwind,\"a\"\n.fill 6,1,1\n.fill 6,1,2\n.fill 6,1,3\n.fill 6,1,0\n.popsection");
`
	flags := append(slices.Clone(kernelish), "-fno-toplevel-reorder", "-fno-reorder-blocks-and-partition")
	r, err := objdiff.Diff(build(t, src, append(flags, "-DEDIT=1")...), build(t, src, append(flags, "-DEDIT=2")...), ownKeys)
	qt.Assert(t, qt.IsNil(err))
	e := checkExtract(t, r)
	ip, orc, text := e.File.Section(".orc_unwind_ip"), e.File.Section(".orc_unwind"), e.File.Section(".text.f")
	qt.Assert(t, qt.HasLen(ip.Relocs, 5))
	qt.Assert(t, qt.HasLen(orc.Data, 30))
	at := map[byte][]int64{}
	for _, rel := range ip.Relocs {
		kind := orc.Data[rel.Off/4*6]
		at[kind] = append(at[kind], int64(rel.Sym.Value)+rel.Addend)
	}
	end := int64(len(text.Data))
	test := end - 18 // cmpl, jne, jmp
	qt.Check(t, qt.DeepEquals(at[0], []int64{end}), qt.Commentf("what follows the function is nobody's"))
	qt.Check(t, qt.HasLen(at[2], 2))
	qt.Check(t, qt.Equals(at[2][1], test))
	qt.Check(t, qt.IsTrue(at[3][0] < test))
	// the label's place is a jump to the test
	site := bytes.IndexByte(text.Data[at[2][0]:], 0xe9) + int(at[2][0])
	qt.Check(t, qt.Equals(int64(site)+5+int64(int32(binary.LittleEndian.Uint32(text.Data[site+1:]))), test))
}
