// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newMachineCommand(a *app) *cobra.Command {
	return command.Parent("machine", "The machines that are enrolled",
		`A machine enrols with tsugi enroll and a token (tsugictl token new). Its tier,
group and hold are decided here and need nothing done on the machine.`,
		newMachineLsCommand(a), newMachineShowCommand(a), newMachineModulesCommand(a), newMachineReportsCommand(a), newMachineSetCommand(a), newMachineRmCommand(a))
}

func newMachineLsCommand(a *app) *cobra.Command {
	var f client.MachineFilter
	var word, need string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines: which is protected, and if not, why not",
		Long: `ls lists machines. With --cve it lists those on which that vulnerability is
open, and says what would end it there; with --need those on which anything is
open that this would end:

  reboot      no live patch can do it: boot the updated kernel
  module      another build of a module is loaded than the fixed one: unload it
  restart     some processes of a package run the old code: start them anew
  live-patch  a live patch with the fix is there; the machine does not run it
  build       the fix is pushed; no live patch with it is in the machine's tier
  policy      the machine's policy leaves it out
  possible    a fix is there that is possibly, not surely, this vulnerability's

A machine that is protected has the newest live patch that it should have. What
that can't end is open there all the same.`,
		Example: `  tsugictl machine ls
  tsugictl machine ls --protection failing
  tsugictl machine ls --cve CVE-2026-31431
  tsugictl machine ls --need reboot --tier stable`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Protection, f.Need = api.Protection(word), api.Need(need)
			return askAll(a, "machines", func(c *client.Client, after string) (*api.List[api.Machine], error) {
				f.After = after
				return c.Machines(cmd.Context(), f)
			}, func(all []api.Machine) string {
				switch {
				case len(all) == 0 && f.CVE != "":
					a.Term.Say("%s is open on no machine, as far as the machines' live patches and what is pushed tell", f.CVE)
				case len(all) == 0 && (f != client.MachineFilter{After: f.After}):
					a.Term.Say("no such machines")
				case f.CVE != "" || need != "":
					return openTable(all)
				case len(all) == 0:
					a.Term.Say("no machines; tsugictl token new makes a token to enrol some with")
				}
				return machineTable(all)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Tier, "tier", "", "only machines of this tier")
	fl.StringVar(&f.Group, "group", "", "only machines of this group")
	fl.StringVar(&f.Query, "search", "", "only machines with this in their host name, id, kernel release or a package of their processes")
	fl.StringVar(&f.CVE, "cve", "", "only machines on which this vulnerability is open")
	fl.StringVar(&need, "need", "", "only machines with something open that this would end: reboot, module, restart, live-patch, build, policy or possible")
	fl.BoolVar(&f.Stale, "stale", false, "only machines whose processes run what their disk has no more, since an upgrade")
	fl.StringVar(&word, "protection", "", "only protected, outdated, partly, unprotected, not-covered, failing or silent ones")
	return cmd
}

func machineTable(machines []api.Machine) string {
	rows := make([][]string, len(machines))
	for i, m := range machines {
		why := ui.Dim(m.Reason)
		if m.Stale != nil && m.Stale.Processes > 0 {
			why = strings.TrimPrefix(why+"; ", "; ") + ui.Warn(toRestart(m.Stale.Processes))
		}
		rows[i] = []string{m.Hostname, m.ID, m.Tier, m.Kernel.Release, patchOf(m.Patch), protection(m.Protection), when(m.Seen), why}
	}
	return ui.Table([]string{"host", "machine", "tier", "kernel", "live patch", "", "seen", ""}, rows)
}

// toRestart says how many processes run what the disk has no more.
func toRestart(n int) string { return ui.Count(n, "process") + " to restart" }

// openTable lists machines with what was asked about.
func openTable(machines []api.Machine) string {
	var rows [][]string
	for _, m := range machines {
		for i, o := range m.Open {
			if i == maxShown {
				rows = append(rows, []string{m.Hostname, "", "", ui.Dim(fmt.Sprintf("and %d more", len(m.Open)-i))})
				break
			}
			rows = append(rows, []string{m.Hostname, m.ID, m.Tier, m.Kernel.Release, patchOf(m.Patch), o.CVE, severityOf(o), needOf(o.Need), clip(o.Why, 90)})
		}
	}
	return ui.Table([]string{"host", "machine", "tier", "kernel", "live patch", "CVE", "severity", "needs", ""}, rows)
}

func severityOf(o api.OpenCVE) string {
	if o.Exploited {
		return ui.Bad(strings.TrimSpace(o.Severity + " exploited"))
	}
	return o.Severity
}

func needOf(n api.Need) string {
	switch {
	case !n.Counts():
		return ui.Dim(string(n))
	case n == api.NeedReboot || n == api.NeedModule || n == api.NeedRestart:
		return ui.Warn(string(n))
	}
	return string(n)
}

// needs says in a few words what is open on a machine, or on machines.
func needs(all map[api.Need]int) string {
	var words []string
	for _, n := range api.Needs() {
		if all[n] > 0 {
			words = append(words, fmt.Sprintf("%d %s", all[n], needOf(n)))
		}
	}
	return strings.Join(words, ", ")
}

func newMachineShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show MACHINE",
		Short: "Show all that is known of a machine",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "machine", func(c *client.Client) (*api.Machine, error) {
				return c.Machine(cmd.Context(), args[0])
			}, machineText)
		},
	}
}

func machineText(m *api.Machine) string {
	able := "yes"
	if !m.Able {
		able = ui.Bad("no")
	}
	flags := ""
	if m.Hold {
		flags += "held: nothing is applied until the hold ends\n"
	}
	if m.Cloned {
		flags += ui.Bad("cloned") + ": two machines use this identity; run tsugi enroll on one of them again\n"
	}
	var b strings.Builder
	b.WriteString(ui.Pairs(
		[2]string{"machine", m.ID},
		[2]string{"host", m.Hostname},
		[2]string{"protection", protection(m.Protection) + "  " + m.Reason},
		[2]string{"of its kernel", kernelAlone(m)},
		[2]string{"live patch", patchOf(m.Patch)},
		[2]string{"should have", m.Target},
		[2]string{"kernel", m.Kernel.Release + " " + m.Kernel.Arch},
		[2]string{"build-id", m.Kernel.BuildID},
		[2]string{"system", m.OS},
		[2]string{"tier", m.Tier},
		[2]string{"group", m.Group},
		[2]string{"policy", m.Policy},
		[2]string{"agent", m.Agent},
		[2]string{"can be patched", able},
		[2]string{"open CVEs need", needs(m.Needs)},
		[2]string{"enrolled", when(m.Enrolled)},
		[2]string{"seen", when(m.Seen)},
		[2]string{"booted", when(m.Booted)},
	))
	b.WriteString(flags)
	if m.Patch.Problem != nil {
		b.WriteString("\n" + told(m.Patch.Problem) + "\n")
	}
	for i := range m.Problems {
		b.WriteString("\n" + told(&m.Problems[i]) + "\n")
	}
	if len(m.Open) > 0 {
		b.WriteString("\n" + openCVEs(m.Open))
	}
	b.WriteString(packagesText(m.Packages))
	b.WriteString(staleText(m.Stale))
	if len(m.Replacements) > 0 {
		rows := make([][]string, len(m.Replacements))
		for i, r := range m.Replacements {
			why := ""
			if r.Problem != nil {
				why = strings.TrimSpace(string(r.Problem.Code) + " " + r.Problem.What)
			}
			state := ui.Warn(string(r.State))
			if r.State.Protects() {
				state = ui.Good(string(r.State))
			}
			rows[i] = []string{r.Module, state, why}
		}
		b.WriteString("\n" + ui.Table([]string{"fixed module", "", ""}, rows))
	}
	if len(m.CVEs) > 0 {
		b.WriteString("\n" + ui.Flow("fixed       ", m.CVEs, ","))
	}
	return b.String()
}

// kernelAlone is how the kernel stands, where that is not how the machine does.
func kernelAlone(m *api.Machine) string {
	if m.KernelProtection == "" || m.KernelProtection == m.Protection {
		return ""
	}
	return protection(m.KernelProtection) + "  " + m.KernelReason
}

// openCVEs lists what is open on a machine.
func openCVEs(all []api.OpenCVE) string {
	shown := all[:min(len(all), maxShown)]
	rows := make([][]string, len(shown))
	for i, o := range shown {
		why := strings.TrimSpace(o.Code + " " + o.Why)
		if o.Package != "" {
			why = strings.TrimSuffix(o.Package+": "+why, ": ")
		}
		rows[i] = []string{o.CVE, severityOf(o), needOf(o.Need), clip(why, 90)}
	}
	text := ui.Table([]string{"open", "severity", "needs", ""}, rows)
	if more := len(all) - len(shown); more > 0 {
		text += ui.Dim(fmt.Sprintf("and %d more: --json has them", more)) + "\n"
	}
	return text
}

func newMachineSetCommand(a *app) *cobra.Command {
	var tier, group string
	var hold, unhold bool
	cmd := &cobra.Command{
		Use:     "set MACHINE...",
		Short:   "Change the tier, the group or the hold of machines",
		Example: "  tsugictl machine set 0198… --tier stable\n  tsugictl machine set 0198… --hold",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change api.MachineChange
			if cmd.Flags().Changed("tier") {
				change.Tier = &tier
			}
			if cmd.Flags().Changed("group") {
				change.Group = &group
			}
			switch {
			case hold && unhold:
				return command.Usage(cmd.CommandPath(), "--hold and --unhold contradict each other")
			case hold:
				change.Hold = &hold
			case unhold:
				no := false
				change.Hold = &no
			}
			if change == (api.MachineChange{}) {
				return command.Usage(cmd.CommandPath(), "nothing to change: give --tier, --group, --hold or --unhold")
			}
			return ask(a, "machines", func(c *client.Client) (done []api.Machine, err error) {
				for _, id := range args {
					m, err := c.ChangeMachine(cmd.Context(), id, change)
					if err != nil {
						return done, fmt.Errorf("machine %s: %w", id, err)
					}
					done = append(done, *m)
				}
				return done, nil
			}, machineTable)
		},
	}
	f := cmd.Flags()
	f.StringVar(&tier, "tier", "", "the tier that they get live patches from")
	f.StringVar(&group, "group", "", "the group that they belong to; \"\" for none")
	f.BoolVar(&hold, "hold", false, "apply nothing until the hold ends")
	f.BoolVar(&unhold, "unhold", false, "end the hold")
	return cmd
}

func newMachineRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm MACHINE...",
		Short: "Decommission machines",
		Long: `rm ends the enrolment of machines: their credentials are refused from now on
and their place in the limit is free. What a machine has loaded stays loaded
until it is reverted there or the machine reboots.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "decommissioned", args, (*client.Client).Decommission)
		},
	}
}
