// SPDX-License-Identifier: Apache-2.0

// Program load measures how many check-ins a server takes. It fills a fresh
// database with machines, behind the server's back and before it starts, and
// then is all of these machines at once, over a number of connections.
//
//	load fill --database sqlite:/var/lib/x/server.db --machines 100000
//	load run --url https://127.0.0.1:8443 --machines 100000 --rate 10000
//
// Machines check in at fixed times, whether the server keeps up or not, and a
// latency counts from the time that its request was due: a server that stops
// for a second is not forgiven the requests that waited.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("fill or run?")
	}
	set := flag.NewFlagSet("load "+args[0], flag.ContinueOnError)
	machines := set.Int("machines", 100_000, "machines that are enrolled")
	switch args[0] {
	case "fill":
		database := set.String("database", "", "sqlite:FILE or postgres://…, with the schema and nothing in it")
		if err := set.Parse(args[1:]); err != nil {
			return err
		}
		return fill(ctx, *database, *machines)
	case "run":
		var o options
		set.StringVar(&o.url, "url", "https://127.0.0.1:8443", "of the server")
		set.Float64Var(&o.rate, "rate", 10_000, "check-ins a second")
		set.IntVar(&o.connections, "connections", 64, "connections that machines share")
		set.DurationVar(&o.warmup, "warmup", 0, "how long before it is measured")
		set.DurationVar(&o.duration, "duration", 0, "how long it is measured; 0: until all machines have checked in once")
		set.StringVar(&o.name, "name", "check-ins", "of the figure")
		set.StringVar(&o.figures, "figures", "", "file to write the figures to: rate, p99 in ms, processor in %, memory in MB")
		set.IntVar(&o.pid, "pid", 0, "of the server, to tell its processor time and memory")
		set.Float64Var(&o.changed, "changed", 0, "share of check-ins that say something new")
		if err := set.Parse(args[1:]); err != nil {
			return err
		}
		o.machines = *machines
		return measure(ctx, o)
	}
	return fmt.Errorf("%q is neither fill nor run", args[0])
}
