// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newLivePatchContentsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "contents LIVEPATCH",
		Short: "Show what a live patch is made of: fixes, functions, files, modules, risks",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch-contents", func(c *client.Client) (*api.LivePatchContents, error) {
				return c.LivePatchContents(cmd.Context(), args[0])
			}, contentsText)
		},
	}
}

func contentsText(p *api.LivePatchContents) string {
	var b strings.Builder
	b.WriteString(ui.Pairs(
		[2]string{"live patch", ui.Bold(p.ID)},
		[2]string{"package", p.PackageVersion},
		[2]string{"fixes up to", p.Update},
		[2]string{"module", moduleOf(p)},
		[2]string{"compiler", p.Compiler},
		[2]string{"builder", p.Builder},
		[2]string{"published by", p.CreatedBy},
	))
	table := func(header []string, rows [][]string) {
		if len(rows) > 0 {
			b.WriteString("\n" + ui.Table(header, rows))
		}
	}
	var fixes, functions, files, modules, open, risks [][]string
	for _, f := range p.Fixes {
		fixes = append(fixes, []string{f.ID, strings.Join(f.CVEs, " "), f.Severity, clip(f.Title, 90)})
	}
	table([]string{"fix", "CVEs", "severity", ""}, fixes)
	for _, f := range p.Functions {
		functions = append(functions, []string{f.Object, f.Name, f.Change})
	}
	table([]string{"object", "function", "change"}, functions)
	for _, f := range p.Files {
		files = append(files, []string{f.Path, f.Package, f.BuildID, ui.Size(f.Size)})
	}
	table([]string{"file", "package", "build-id", "gets"}, files)
	for _, r := range p.Replacements {
		modules = append(modules, []string{r.Name, r.Path, strings.Join(r.Fixes, " ")})
	}
	table([]string{"fixed module", "file", "fixes"}, modules)
	for _, f := range p.Open {
		open = append(open, []string{f.ID, strings.Join(f.CVEs, " "), f.Kind, clip(strings.TrimSpace(f.Code+" "+f.Why), 90)})
	}
	table([]string{"left out", "CVEs", "", "why"}, open)
	for _, r := range p.Risks {
		risks = append(risks, []string{string(r.Code), r.What, r.Where})
	}
	table([]string{"risk", "", ""}, risks)
	return b.String()
}

// moduleOf is the module of a kernel's live patch.
func moduleOf(p *api.LivePatchContents) string {
	if p.Module.Name == "" {
		return ""
	}
	return p.Module.Name + "  " + ui.Size(p.Module.Size)
}

func newLivePatchDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff LIVEPATCH FIX",
		Short: "Show the diff of a fix as it went into a live patch",
		Long: `diff shows the change of the source that a live patch was built from, for one of
its fixes; tsugictl livepatch contents names them.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch-diff", func(c *client.Client) (*api.FixDiff, error) {
				return c.LivePatchDiff(cmd.Context(), args[0], args[1])
			}, func(d *api.FixDiff) string {
				if d.Cut {
					a.Term.Say("only its beginning: the whole one is in the live patch (tsugictl show)")
				}
				return d.Diff
			})
		},
	}
}

func newLivePatchProofCommand(a *app) *cobra.Command {
	var console bool
	cmd := &cobra.Command{
		Use:   "proof LIVEPATCH",
		Short: "Show the proof that came with a live patch",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch-proof", func(c *client.Client) (*api.PatchProof, error) {
				return c.LivePatchProof(cmd.Context(), args[0])
			}, func(p *api.PatchProof) string {
				if !console {
					return treeText(p.Proof)
				}
				var b strings.Builder
				for _, x := range p.Consoles {
					b.WriteString(ui.Bold(x.Run) + "  " + ui.Dim(x.Digest) + "\n")
					if !x.Kept {
						b.WriteString("its digest is known, its text was not kept\n")
					}
					b.WriteString(x.Text + "\n")
				}
				return b.String()
			})
		},
	}
	cmd.Flags().BoolVar(&console, "console", false, "what its virtual machines wrote on their consoles")
	return cmd
}

func newLivePatchProvenanceCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "provenance LIVEPATCH",
		Short: "Show the statement of how a live patch was made",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch-provenance", func(c *client.Client) (*api.PatchProvenance, error) {
				return c.LivePatchProvenance(cmd.Context(), args[0])
			}, func(p *api.PatchProvenance) string { return treeText(p.Statement) })
		},
	}
}

// treeText is a record that others defined, as it is.
func treeText(v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error() + "\n"
	}
	return string(b) + "\n"
}
