// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/host"
)

func newAgentCommand(a *app) *cobra.Command {
	var boot bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this machine",
		Long: `agent puts back the live patch that this machine had before the boot, and then
follows the server that the machine is enrolled with. systemd runs it
(tsugi.service).

With --boot it only puts back what was confirmed healthy under this kernel
before, from its cache and without a network, and ends (tsugi-boot.service).
tsugi=off on the kernel command line makes both do nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if boot {
				return a.boot(cmd.Context())
			}
			return a.daemon(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&boot, "boot", false, "apply from the cache and end")
	return cmd
}

// logger writes for systemd, which adds the time, or for a person.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if cfg, err := agent.LoadConfig(a.config); err == nil {
		_ = level.UnmarshalText([]byte(cfg.LogLevel)) // checked when it was read
	}
	o := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		}
	}
	return slog.New(slog.NewTextHandler(a.Streams.Stderr, o))
}

// boot never keeps a machine from coming up: what could not be done is in the
// journal, in status and in the log.
func (a *app) boot(ctx context.Context) error {
	log := a.logger()
	ag, err := a.open(ctx, agent.Options{Log: log})
	if err != nil {
		return err
	}
	ag.Start(ctx)
	return ag.Close()
}

func (a *app) daemon(ctx context.Context) error {
	thrift()
	log := a.logger()
	ag, err := a.open(ctx, agent.Options{Log: log, GoesDown: host.GoesDown, Notify: func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("service manager", "err", err)
		}
	}})
	if err != nil {
		return err
	}
	l, err := agent.Listen(a.socket)
	if err != nil {
		return errors.Join(err, ag.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var served error
	wg.Go(func() {
		defer stop()
		served = ag.Serve(ctx, l)
	})
	err = ag.Run(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, served, ag.Close())
}

// What an idle agent may use. The limit is soft: it makes the collector work
// more, and is lifted while a live patch is in memory.
const (
	collectAt   = 40       // per cent of growth
	memoryLimit = 12 << 20 // bytes of the Go heap and its surroundings
)

// thrift keeps an idle agent small.
func thrift() {
	debug.SetGCPercent(collectAt)
	debug.SetMemoryLimit(memoryLimit)
}

// large lifts the limit for a while, and then gives back what was needed.
func large() (done func()) {
	debug.SetMemoryLimit(math.MaxInt64)
	return func() {
		debug.SetMemoryLimit(memoryLimit)
		debug.FreeOSMemory()
	}
}
