// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

func newKeepCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "keep",
		Short: "Keep live patches of libraries and programs in all processes",
		Long: `keep brings every process that maps a patched library or program to the live
patches that were applied: those that start from now on, within milliseconds,
and those that were busy, as soon as they are not. systemd runs it
(tsugi-keep.service); it is a program of its own, since it must not be held to
the agent's system call filter, and needs no network. For the agent it counts
the processes that map what the tier has live patches for, and tells it of
programs that crash.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.keeper(cmd.Context())
			if err != nil {
				return err
			}
			return k.Serve(cmd.Context(), a.logger(), keeper.Host{})
		},
	}
}

// keeper is for root: nobody else may look into all processes.
func (a *app) keeper(ctx context.Context) (*keeper.Keeper, error) {
	if os.Geteuid() != 0 {
		return nil, code.New("TS9660", "", "")
	}
	h, err := host.System{Dir: a.dir}.Host(ctx)
	if err != nil {
		return nil, err
	}
	if h.Off {
		return nil, code.New("TS9420", "", "")
	}
	return keeper.New(filepath.Join(a.dir, host.ProcessesDir), keeper.Host{Engine: process.New(process.Config{}), Log: a.logger()}), nil
}

// processes runs f, prints its report as kind, and ends with 2 when a process
// does not have what it should have.
func (a *app) processes(ctx context.Context, limit time.Duration, kind string, f func(context.Context, *keeper.Keeper) (*keeper.Report, error)) error {
	ctx, cancel := a.within(ctx, limit)
	defer cancel()
	k, err := a.keeper(ctx)
	if err != nil {
		return err
	}
	r, err := f(ctx, k)
	if err != nil {
		return err
	}
	if err := a.Show(kind, r, func() string { return processesText(kind, r, time.Now()) }); err != nil {
		return err
	}
	if !r.Whole() {
		return command.Outcome(exitRefused)
	}
	return nil
}

// lookTime is for all processes of a machine.
const lookTime = time.Minute

func (a *app) processStatus(ctx context.Context) error {
	return a.processes(ctx, lookTime, kindStatus, func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		return k.Status(ctx)
	})
}

// The kinds of reports.
const (
	kindStatus   = "processes"
	kindPlanned  = "processes-planned"
	kindApplied  = "processes-applied"
	kindReverted = "processes-reverted"
)

// applyOptions are the flags of apply.
type applyOptions struct {
	local, dryRun bool
	processes     []int
}

// forProcesses reports whether a flag is set that kernels know nothing of.
func (o applyOptions) forProcesses() bool { return o.dryRun || len(o.processes) > 0 }

func (a *app) applyProcesses(ctx context.Context, file []byte, o applyOptions) error {
	kind := kindApplied
	if o.dryRun {
		kind = kindPlanned
	}
	return a.processes(ctx, changeTime, kind, func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		if !o.local {
			return nil, code.New("TS9424", "", "--process and --dry-run are for files that you vouch for")
		}
		only, err := chosen(ctx, o.processes)
		if err != nil {
			return nil, err
		}
		if o.dryRun {
			return k.Plan(ctx, file, only...)
		}
		return k.Apply(ctx, file, only...)
	})
}

// chosen takes the numbers of processes for those that have them now.
func chosen(ctx context.Context, pids []int) ([]proc.ID, error) {
	var ids []proc.ID
	for _, pid := range pids {
		p, err := proc.Open(ctx, pid)
		if err != nil {
			return nil, err
		}
		ids = append(ids, p.ID())
		p.Close()
	}
	return ids, nil
}

// revertProcesses takes out what the agent has given, which then keeps it out, or
// what a person has applied.
func (a *app) revertProcesses(ctx context.Context, id string) error {
	if os.Geteuid() != 0 {
		return code.New("TS9660", "", "")
	}
	var given *api.Patch
	err := a.change(ctx, func(ctx context.Context, c agent.Control) (err error) {
		given, err = c.RevertPackage(ctx, id)
		return err
	})
	if err != nil && code.Of(err) != "TS9664" {
		return err
	}
	return a.processes(ctx, changeTime, kindReverted, func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		r, err := k.Revert(ctx, id)
		if given != nil && code.Of(err) == "TS9664" { // the keeper has done it
			return &keeper.Report{Patches: []keeper.Patch{{ID: given.ID, Version: given.Version, Out: true}}, Processes: []keeper.Process{}}, nil
		}
		return r, err
	})
}
