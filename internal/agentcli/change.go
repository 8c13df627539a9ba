// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newRefreshCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "refresh",
		Short: "Check in with the server now and do what follows from it",
		Long: `refresh checks in now, fetches the signed metadata, and applies what this
machine should have. A live patch that was taken out by hand may come back; one
in quarantine does not (see tsugi clear).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error {
				err := c.Refresh(ctx)
				if err != nil {
					return err
				}
				return a.show(ctx, c)
			})
		},
	}
}

func newApplyCommand(a *app) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Apply a live patch file or an offline bundle",
		Long: `apply takes an offline bundle (tsugictl bundle) or a live patch file (.tsugi).

A bundle is verified exactly as what comes from the server: against the root of
trust that the enrolment pinned, and it is applied only if policy says so.

A live patch file is applied if the signed index of this machine offers that
very file. With --local you vouch for it yourself; what is blocked, in
quarantine, or older than what this machine had is refused all the same.

A live patch of libraries or programs goes into all processes that map them,
whatever container they are in. A process that is in the middle of the old
code is pending: tsugi keep (the service tsugi-keep) tries it again, and brings
processes to it that start later. The exit code is 2 while one does not have it.

--dry-run lists these processes and changes nothing. With --process it goes into
the named ones only, as a first try: new ones don't get it, children of the
named ones do. The same command without --process brings it to all.`,
		Example: "  tsugi apply site.bundle\n  tsugi apply --local ext4.tsugi\n  tsugi apply --local libssl3.tsugi --dry-run\n  tsugi apply --local libssl3.tsugi --process 4711",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.ReadFile(args[0])
			if err != nil {
				return err
			}
			p, err := livepatch.Read(b)
			switch {
			case err == nil && p.Manifest.Userland() && (o.local || o.forProcesses()):
				return a.applyProcesses(cmd.Context(), b, o)
			case err != nil && o.forProcesses() && !trust.IsBundle(b):
				return err
			case o.forProcesses():
				return command.Usage(Program+" apply", "--process and --dry-run go with a live patch of libraries or programs")
			}
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error { return a.apply(ctx, c, b, o.local) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.local, "local", false, "apply a file that the signed index does not hold")
	f.IntSliceVar(&o.processes, "process", nil, "only to the process of this `PID`, of libraries and programs; may be repeated")
	f.BoolVar(&o.dryRun, "dry-run", false, "list the processes it would go into, of libraries and programs")
	return cmd
}

func (a *app) apply(ctx context.Context, c agent.Control, b []byte, local bool) error {
	if trust.IsBundle(b) {
		all, err := c.ApplyBundle(ctx, b)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return a.show(ctx, c)
		}
		return a.Show("applied", all, func() string { return appliedText(statusOf(ctx, c), all...) })
	}
	p, err := c.ApplyFile(ctx, b, local)
	if err != nil {
		return err
	}
	return a.Show("applied", p, func() string { return appliedText(statusOf(ctx, c), *p) })
}

// statusOf is the status; one that can't be had tells nothing more.
func statusOf(ctx context.Context, c agent.Control) *agent.Status {
	s, err := c.Status(ctx)
	if err != nil {
		return &agent.Status{}
	}
	return s
}

// appliedText tells what was applied, and who looks after it.
func appliedText(s *agent.Status, all ...api.Patch) string {
	var b strings.Builder
	fresh, deaf := 0, false
	for _, p := range all {
		switch p.State {
		case api.Applied:
			fresh++
			deaf = deaf || s.Deaf != nil && slices.ContainsFunc(s.Packages, func(q agent.PackageStatus) bool { return q.Patch.ID == p.ID })
			fallthrough
		case api.Healthy:
			b.WriteString(ui.Good("✓") + " " + ui.Bold(p.ID) + " is applied\n")
		default:
			b.WriteString(ui.Warn("!") + " " + ui.Bold(p.ID) + " is " + string(p.State) + "\n")
		}
	}
	it := "it is watched for a while before it counts as healthy"
	if fresh > 1 {
		it = "they are watched for a while before they count as healthy"
	}
	switch {
	case fresh > 0 && s.Running:
		b.WriteString("  " + ui.Dim("○ "+it+": tsugi status") + "\n")
	case fresh > 0:
		b.WriteString("  " + ui.Dim("○ the agent does not run; when it does, "+it) + "\n")
	}
	if deaf {
		b.WriteString("  " + deafLine(s) + "\n")
	}
	return b.String()
}

// deafLine tells that crashes of programs can't be seen.
func deafLine(s *agent.Status) string {
	return ui.Warn("!") + " programs that crash can't be seen here: " + string(s.Deaf.Code) + " " + s.Deaf.What
}

func newRevertCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revert [ID]",
		Short: "Take the live patch out of the running kernel, or out of processes",
		Long: `revert takes out what is applied, without a reboot; a transition that is under
way is reversed. It needs no server. The live patch stays out, also after a
boot, until tsugi refresh or tsugi apply, or until a newer version comes;
tsugi hold keeps that out too.

With the ID of a live patch of libraries or programs (tsugi status lists them),
or with its target, that is taken out of all processes, and stays out likewise.`,
		Example: "  tsugi revert\n  tsugi revert debian:libssl3=3.0.20-1~deb12u2",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.revertProcesses(cmd.Context(), args[0])
			}
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error {
				p, err := c.Revert(ctx)
				if err != nil {
					return err
				}
				return a.Show("reverted", p, func() string {
					return ui.Good("✓") + " " + ui.Bold(p.ID) + " is out of the kernel\n  " +
						ui.Dim("○ it stays out until tsugi refresh, tsugi apply or a newer version") + "\n"
				})
			})
		},
	}
}

func newHoldCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "hold",
		Short: "Keep this machine as it is",
		Long: `hold keeps the agent from applying, replacing and taking out live patches, a
recall by the server included. What this machine had is still put back after a
boot. tsugi unhold lets it go on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.hold(cmd.Context(), true) },
	}
}

func newUnholdCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unhold",
		Short: "Let the agent change this machine again",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.hold(cmd.Context(), false) },
	}
}

func (a *app) hold(ctx context.Context, on bool) error {
	return a.change(ctx, func(ctx context.Context, c agent.Control) error {
		if err := c.Hold(ctx, on); err != nil {
			return err
		}
		return a.Show("hold", map[string]bool{"hold": on}, func() string {
			if on {
				return ui.Good("✓") + " this machine is held as it is\n"
			}
			return ui.Good("✓") + " this machine is not held\n"
		})
	})
}

func newClearCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "clear ID|MODULE|all|journal",
		Short: "End the quarantine of a live patch or a fixed module",
		Long: `clear lets a live patch be applied again that took the machine down or was not
healthy, or a fixed module of it, by the module's name. Read why first: tsugi
status. "all" ends every quarantine. "journal"
puts a damaged journal aside; what it knew of quarantines is lost with it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), func(ctx context.Context, c agent.Control) error {
				ids, err := c.Clear(ctx, args[0])
				if err != nil {
					return err
				}
				return a.Show("cleared", ids, func() string {
					if len(ids) == 0 {
						return "nothing is in quarantine\n"
					}
					return fmt.Sprintf("%s cleared: %s\n", ui.Good("✓"), strings.Join(ids, ", "))
				})
			})
		},
	}
}
