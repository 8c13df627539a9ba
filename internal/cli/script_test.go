// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/cli"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/servercli"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestMain(m *testing.M) {
	program := func(main func(context.Context, []string, command.Streams) int) func() {
		return func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			os.Exit(main(ctx, os.Args[1:], command.Streams{
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
			}))
		}
	}
	testscript.Main(m, map[string]func(){
		"tsugictl":     program(cli.Main),
		"tsugi-server": program(servercli.Main),
	})
}

// TestScripts runs every command as a user would, with what it prints and the
// exit code it ends with.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TSUGI_HOME", env.WorkDir+"/home")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			_, err := exec.LookPath(cond)
			return err == nil, need.Missing(err)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "mkpatch": mkpatch, "mkpackage": mkpackage},
	})
}

// mkpackage FILE: writes a well-formed live patch of a package that no store has.
func mkpackage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkpackage FILE")
	}
	crypto, ssl := strings.Repeat("c1", 20), strings.Repeat("55", 20)
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: "tsugi_sample", Version: 2,
		Target: livepatch.TargetRef{Name: "debian:libssl3=3.0.20-1~deb12u2", PackageVersion: "3.0.20-1~deb12u2", Arch: "x86_64"},
		Fixes:  []livepatch.FixRef{{ID: "sample", Title: "ssl: check the length", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{
			{Object: "libssl.so.3", Name: "SSL_free", Change: "size changes from 27 to 52 bytes"},
			{Object: "libcrypto.so.3", Name: "aes_ocb_cipher", SymPos: 2, Change: "other code at +0x10"},
		},
		Files: []livepatch.FileRef{
			{BuildID: ssl, Name: "libssl.so.3", Path: "/usr/lib/x86_64-linux-gnu/libssl.so.3", Package: "libssl3"},
			{BuildID: crypto, Name: "libcrypto.so.3", Path: "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", Package: "libssl3"},
		},
	}, map[string][]byte{ssl: bytes.Repeat([]byte{7}, 4096), crypto: bytes.Repeat([]byte{8}, 100)}, map[string][]byte{"sample": []byte("--- a/x\n")})
	ts.Check(err)
	b, err := p.Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// mkpatch FILE: writes a well-formed live patch of a target that no store has.
func mkpatch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkpatch FILE")
	}
	p, err := livepatch.New(livepatch.Manifest{
		Name: "tsugi_sample", Version: 3,
		Target: livepatch.TargetRef{
			Name: "debian:1.2.3-amd64", Release: "1.2.3-amd64", PackageVersion: "1.2.3-1", Arch: "x86_64",
			BuildID: strings.Repeat("ab", 20),
		},
		Fixes: []livepatch.FixRef{{ID: "sample", Title: "net: check the length", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{
			{Object: "vmlinux", Name: "tcp_ack", Change: "size changes from 27 to 52 bytes"},
			{Object: "nf_tables", Name: "helper", SymPos: 2, Change: "other code at +0x10"},
		},
		Risks: []livepatch.Risk{{Code: "TS8001", What: "a risk", Where: "tcp_ack"}},
	}, "tsugi_sample.ko", bytes.Repeat([]byte{7}, 41_233), map[string][]byte{"sample": []byte("--- a/x\n")})
	ts.Check(err)
	b, err := p.Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// exits CODE PROGRAM ARGS...: runs a program that must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
