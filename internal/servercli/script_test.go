// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/cli"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/servercli"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
)

func TestMain(m *testing.M) {
	program := func(main func(context.Context, []string, command.Streams) int) func() {
		return func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(main(ctx, os.Args[1:], command.Streams{
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
			}))
		}
	}
	testscript.Main(m, map[string]func(){
		"tsugi-server":      program(servercli.Main),
		"tsugictl":          program(cli.Main),
		"tsugi-test-worker": program(testWorker),
	})
}

// TestScripts runs every command as an operator would.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TSUGI_SERVER_DIR", env.WorkDir+"/srv")
			env.Setenv("TSUGI_SESSION", env.WorkDir+"/session.json")
			env.Setenv("TSUGI_HOME", env.WorkDir+"/home")
			p, err := port.Reserve()
			env.Setenv("PORT", strconv.Itoa(p))
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "field": field,
		},
	})
}

// exits STATUS PROGRAM ARG...: the program ends with exactly this status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// ready waits until a server answers.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ready")
	}
	for range 2400 {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+ts.Getenv("PORT"), time.Second)
		if err == nil {
			ts.Check(c.Close())
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("no server at port %s", ts.Getenv("PORT"))
}

// field NAME FILE: writes what a field of the JSON on standard output says.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field NAME FILE")
	}
	_, rest, ok := strings.Cut(ts.ReadFile("stdout"), `"`+args[0]+`": "`)
	if !ok {
		ts.Fatalf("no field %s", args[0])
	}
	value, _, _ := strings.Cut(rest, `"`)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(value), 0o600))
	ts.Setenv(strings.ToUpper(args[0]), value)
}
