// SPDX-License-Identifier: Apache-2.0

// Tsugi-server is the service: it takes live patches in, builds and proves
// them, and hands them to machines. See internal/servercli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // digests have a time zone, and small systems no database of them

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/servercli"
)

func main() {
	// In the virtual machine of a proof this very program is process 1.
	guest.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(servercli.Main(ctx, os.Args[1:], command.Streams{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ(),
	}))
}
