// SPDX-License-Identifier: Apache-2.0

package agentcli_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// A program that answers each line with a number.
const answering = `
#include <stdio.h>
__attribute__((noinline)) int answer(void) { __asm__ volatile(""); return ANSWER; }
int main(void)
{
	for (int c; (c = getchar()) != EOF;)
		if (c == '\n') {
			printf("%d\n", answer());
			fflush(stdout);
		}
	return 0;
}
`

// program is one that runs.
type program struct {
	in  io.Writer
	out *bufio.Reader
}

// programs are those of a script.
type programs struct{}

// mkprogram NAME: builds a program that answers 1, and writes NAME.tsugi, with
// which it answers 2, and NAME-other.tsugi, with which it answers 3 and which
// has the same version. The build-id is this script's own.
func mkprogram(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkprogram NAME")
	}
	name := args[0]
	source := func(answer string) string { return strings.ReplaceAll(answering, "ANSWER", answer) }
	id := fmt.Sprintf("-Wl,--build-id=0x%016x%016x", os.Getpid(), time.Now().UnixNano())
	for suffix, answer := range map[string]string{"": "2", "-other": "3"} {
		dir := ts.MkAbs(name + suffix + ".build")
		ts.Check(os.Mkdir(dir, 0o755))
		r, err := local.Build(context.Background(), local.Options{
			Dir: dir, Name: name, Kind: local.PIE, LDFlags: []string{id},
			Sources: []local.Source{{Name: "answer.c", Original: source("1"), Patched: source(answer)}},
		})
		ts.Check(err)
		b, err := r.Splice.Encode()
		ts.Check(err)
		p, err := livepatch.NewUserland(livepatch.Manifest{
			Name: "sample", Version: 1,
			Target:    livepatch.TargetRef{Name: "debian:" + name + "=1", PackageVersion: "1", Arch: "x86_64"},
			Fixes:     []livepatch.FixRef{{ID: "fix", CVEs: []string{"CVE-2026-1000"}}},
			Files:     []livepatch.FileRef{{BuildID: r.BuildID, Name: name, Path: "/usr/bin/" + name, Package: name}},
			Functions: []livepatch.Function{{Object: name, Name: "answer", Change: "its code"}},
		}, map[string][]byte{r.BuildID: b}, map[string][]byte{"fix": []byte("diff")})
		ts.Check(err)
		file, err := p.Bytes()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name+suffix+".tsugi"), file, 0o644))
		if suffix == "" {
			ts.Check(os.Link(r.ELF, ts.MkAbs(name)))
		}
	}
}

// mkkernel FILE: writes a live patch of a kernel.
func mkkernel(ts *testscript.TestScript, _ bool, args []string) {
	p, err := livepatch.New(livepatch.Manifest{
		Name: "tsugi_sample", Version: 1,
		Target:    livepatch.TargetRef{Name: "debian:1.2.3-amd64", Release: "1.2.3-amd64", PackageVersion: "1.2.3-1", Arch: "x86_64", BuildID: strings.Repeat("ab", 20)},
		Fixes:     []livepatch.FixRef{{ID: "sample"}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "tcp_ack", Change: "its code"}},
	}, "tsugi_sample.ko", []byte("module"), map[string][]byte{"sample": []byte("diff")})
	ts.Check(err)
	b, err := p.Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// begin NAME: runs the program; $NAME is its pid.
func begin(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(ts.MkAbs(args[0]))
	in, err := cmd.StdinPipe()
	ts.Check(err)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = in.Close() // it ends
		_ = cmd.Wait()
	})
	ts.Setenv(args[0], fmt.Sprint(cmd.Process.Pid))
	running(ts)[args[0]] = &program{in, bufio.NewReader(out)}
}

func running(ts *testscript.TestScript) map[string]*program {
	return ts.Value(programs{}).(map[string]*program)
}

// answers NAME NUMBER: the program has to answer so.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	p := running(ts)[args[0]]
	_, err := io.WriteString(p.in, "\n")
	ts.Check(err)
	line, err := p.out.ReadString('\n')
	ts.Check(err)
	if got := strings.TrimSpace(line); got != args[1] {
		ts.Fatalf("%s answers %s, not %s", args[0], got, args[1])
	}
}

// damage FILE: changes a byte in its middle.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b[len(b)/2] ^= 0xff
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}
