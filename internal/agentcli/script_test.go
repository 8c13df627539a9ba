// SPDX-License-Identifier: Apache-2.0

package agentcli_test

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/agentcli"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tsugi": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// A state, a socket and a configuration of the script's own.
			work := os.Getenv("WORK")
			args := append([]string{"--dir", work + "/state", "--socket", work + "/run/agent.sock", "--config", work + "/agent.yaml"}, os.Args[1:]...)
			os.Exit(agentcli.Main(ctx, args, command.Streams{
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
			}))
		},
	})
}

// TestScripts runs commands as a person would, on a machine that is not
// enrolled: with an agent that runs and without.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[programs{}] = map[string]*program{}
			env.Setenv("SELF", strconv.Itoa(os.Getpid()))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			_, err := exec.LookPath(cond)
			return err == nil, need.Missing(err)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "mkprogram": mkprogram, "mkkernel": mkkernel, "begin": begin, "answers": answers, "damage": damage,
		},
	})
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
