// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newAuditCommand(a *app) *cobra.Command {
	var limit int
	var f client.AuditFilter
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List who decided what, the newest first; check the log, export it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "audit", func(c *client.Client) ([]api.AuditEntry, error) {
				return upTo(limit, func(after string, n int) (*api.List[api.AuditEntry], error) {
					f.After, f.Limit = after, n
					return c.Audit(cmd.Context(), f)
				})
			}, func(entries []api.AuditEntry) string {
				rows := make([][]string, len(entries))
				for i, e := range entries {
					rows[i] = []string{time.UnixMilli(e.Time).UTC().Format(time.DateTime), e.Actor, e.Action, e.Object, ui.Dim(e.Detail)}
				}
				return ui.Table([]string{"time (UTC)", "who", "what", "on", ""}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "lines", "n", 50, "entries to show")
	cmd.Flags().StringVar(&f.Actor, "actor", "", "only what this one decided")
	cmd.Flags().StringVar(&f.Action, "action", "", "only this action, or an area: 'rollout.*'")
	cmd.Flags().StringVar(&f.Object, "object", "", "only what was about this id or name")
	cmd.AddCommand(newAuditVerifyCommand(a), newAuditExportCommand(a))
	return cmd
}

func newAuditVerifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Have the server check that nobody changed the audit log",
		Long: `verify has the server read its audit log from the first entry on, and check that
each is what was written, in its place. It prints the head of the log, the
number and the hash of the last entry: note it somewhere that is not the server.

Whoever has the server can have it say anything. tsugi-server audit verify
checks an export of before on another computer, and with --noted a head.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			found, err := wholeChain(cmd.Context(), c)
			if err != nil {
				return err
			}
			if b := found.Broken; b != nil {
				return code.New("TS8220", c.URL(), fmt.Sprintf("entry %d: %s; %s before it: as written", b.Entry, b.Why, ui.Count(int(found.Checked), "entry")))
			}
			return a.Show("audit-chain", found, func() string {
				text := fmt.Sprintf("%s all %d entries are what was written.\n", ui.Good("✓"), found.Checked)
				if found.Checked > 0 {
					text += fmt.Sprintf("The head of the log, to note elsewhere: %d:%s\n", found.Checked, found.Hash)
				}
				return text
			})
		},
	}
}

// wholeChain asks until a check is through: the server makes it in pieces.
func wholeChain(ctx context.Context, c *client.Client) (*api.AuditChain, error) {
	for checked := int64(-1); ; {
		found, err := c.AuditChain(ctx)
		if err != nil || found.Done || found.Broken != nil {
			return found, err
		}
		if found.Checked == checked { // somebody else's question began it anew
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		checked = found.Checked
	}
}

func newAuditExportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE",
		Short: "Write the audit log to a file",
		Long: `export writes all entries of the audit log in their order, one JSON object on a
line, with their numbers and hashes: tsugi-server audit verify FILE checks them
anywhere, without the server. The file appears whole or not at all; one that is
there is not replaced. "-" is standard output.`,
		Example: "  tsugictl audit export audit-$(date +%F).jsonl",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.exportAudit(cmd, args[0]) },
	}
}

type auditExported struct {
	File    string `json:"file"`
	Entries int    `json:"entries"`
	Head    string `json:"head,omitempty"` // NUMBER:HASH of the last
}

func (a *app) exportAudit(cmd *cobra.Command, path string) error {
	if path == "-" && a.Term.JSON() {
		return command.Usage(cmd.CommandPath(), "with --json the result goes to standard output: name a file")
	}
	if path != "-" {
		if err := command.CheckOutput(path); err != nil {
			return err
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return code.New("TS1903", path, "it is there already").WithFix("name another file, or remove that one")
		}
	}
	c, err := a.server()
	if err != nil {
		return err
	}
	all, err := wholeAudit(cmd.Context(), c)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, e := range all {
		line, err := api.AuditLine(e)
		if err != nil {
			return err
		}
		text.Write(line)
	}
	if path == "-" {
		return a.Term.Raw(text.Bytes())
	}
	if err := renameio.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return command.FileProblem("TS1903", path, err)
	}
	out := auditExported{File: path, Entries: len(all)}
	if n := len(all); n > 0 {
		out.Head = fmt.Sprintf("%d:%s", all[n-1].Seq, all[n-1].Hash)
	}
	return a.Show("audit-export", out, func() string {
		return fmt.Sprintf("%s in %s\n", ui.Count(out.Entries, "entry"), path)
	})
}

// wholeAudit is the whole log, the oldest entry first. What has no place in the
// chain yet is left out, as in the server's own export.
func wholeAudit(ctx context.Context, c *client.Client) ([]api.AuditEntry, error) {
	var all []api.AuditEntry
	for after := ""; ; {
		l, err := c.Audit(ctx, client.AuditFilter{After: after, Limit: api.MaxPage})
		if err != nil {
			return nil, err
		}
		for _, e := range l.Items {
			if e.Seq > 0 {
				all = append(all, e)
			}
		}
		if after = l.Next; after == "" {
			break
		}
	}
	slices.SortFunc(all, func(x, y api.AuditEntry) int { return cmp.Compare(x.Seq, y.Seq) })
	return all, nil
}
