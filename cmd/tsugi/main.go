// SPDX-License-Identifier: Apache-2.0

// Tsugi is the agent of a machine. See internal/agentcli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tsugi-project/tsugi/internal/agentcli"
	"github.com/tsugi-project/tsugi/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(agentcli.Main(ctx, os.Args[1:], command.Streams{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
	}))
}
