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
		newMachineLsCommand(a), newMachineShowCommand(a), newMachineSetCommand(a), newMachineRmCommand(a))
}

func newMachineLsCommand(a *app) *cobra.Command {
	var f client.MachineFilter
	var word string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List machines: which is protected, and if not, why not",
		Example: "  tsugictl machine ls\n  tsugictl machine ls --protection failing\n  tsugictl machine ls --tier beta --search web",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Protection = api.Protection(word)
			return askAll(a, "machines", func(c *client.Client, after string) (*api.List[api.Machine], error) {
				f.After = after
				return c.Machines(cmd.Context(), f)
			}, func(all []api.Machine) string {
				if len(all) == 0 {
					a.Term.Say("no machines; tsugictl token new makes a token to enrol some with")
				}
				return machineTable(all)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Tier, "tier", "", "only machines of this tier")
	fl.StringVar(&f.Group, "group", "", "only machines of this group")
	fl.StringVar(&f.Query, "search", "", "only machines with this in their host name, id or kernel release")
	fl.StringVar(&word, "protection", "", "only protected, outdated, unprotected, not-covered, failing or silent ones")
	return cmd
}

func machineTable(machines []api.Machine) string {
	rows := make([][]string, len(machines))
	for i, m := range machines {
		rows[i] = []string{
			m.Hostname, m.ID, m.Tier, m.Kernel.Release, patchOf(m.Patch), protection(m.Protection), when(m.Seen), ui.Dim(m.Reason),
		}
	}
	return ui.Table([]string{"host", "machine", "tier", "kernel", "live patch", "", "seen", ""}, rows)
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
	if len(m.CVEs) > 0 {
		b.WriteString("\n" + ui.Flow("fixed live  ", m.CVEs, ","))
	}
	return b.String()
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
