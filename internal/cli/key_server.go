// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newKeyStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the roles of a server's TUF repository, their keys and expiry",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			t, err := c.Trust(cmd.Context())
			if err != nil {
				return err
			}
			return a.Show("trust", t, func() string { return trustText(t) })
		},
	}
}

func trustText(t *api.Trust) string {
	rows := make([][]string, len(t.Roles))
	for i, r := range t.Roles {
		keys := ""
		for j, k := range r.Keys {
			if j > 0 {
				keys += " "
			}
			keys += k[:min(16, len(k))]
		}
		ends := time.UnixMilli(r.Expires)
		left := ends.UTC().Format("2006-01-02 15:04")
		switch rest := time.Until(ends); {
		case rest < 0:
			left = ui.Bad(left + " expired")
		case r.Name == repo.RoleRoot && rest < 90*24*time.Hour:
			left = ui.Warn(left + " sign a new one")
		}
		rows[i] = []string{r.Name, fmt.Sprint(r.Version), left, fmt.Sprintf("%d of %d", r.Threshold, len(r.Keys)), keys}
	}
	return ui.Table([]string{"role", "version", "expires", "needs", "keys"}, rows, 1) +
		"\n" + ui.Dim("first root "+t.RootDigest) + "\n"
}

func newKeyFetchCommand(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "fetch -o FILE",
		Short: "Get the present TUF root from a server, to make the next one of",
		Long: `fetch writes the newest root that the server has, after following the chain
from the first one as a machine does. Compare its digest over another way than
the network before you sign what follows on it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			t, err := c.Trust(cmd.Context())
			if err != nil {
				return err
			}
			if len(t.Roles) == 0 || t.Roles[0].Name != repo.RoleRoot {
				return code.New("TS7709", "", "")
			}
			var root []byte
			for v := int64(1); v <= t.Roles[0].Version; v++ {
				b, err := c.TUFRoot(cmd.Context(), v)
				if err != nil {
					return err
				}
				if v == 1 {
					err = repo.VerifyRoot(b)
				} else {
					err = repo.VerifySuccessor(root, b)
				}
				if err != nil {
					return err
				}
				root = b
			}
			return a.signed(out, root)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func newKeyImportCommand(a *app) *cobra.Command {
	var approval string
	cmd := &cobra.Command{
		Use:   "import ROOT",
		Short: "Hand a newly signed TUF root to a server",
		Long: `import gives the server the root that follows on its present one. It checks it
as machines do, and that it has the private keys that the root names for
targets, snapshot and timestamp; then it signs everything with them.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return command.FileProblem("TS1902", args[0], err)
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			t, err := c.Approved(approval).ImportRoot(cmd.Context(), b)
			if err != nil {
				return err
			}
			return a.Show("trust", t, func() string { return trustText(t) })
		},
	}
	approvalFlag(cmd, &approval)
	return cmd
}

func newKeyRotateCommand(a *app) *cobra.Command {
	var approval string
	cmd := &cobra.Command{
		Use:   "rotate TIER",
		Short: "Give a tier a new key",
		Long: `rotate makes a new key for a tier on the server and signs everything in the tier
with it. What the old key signs counts no more as soon as a machine has
refreshed. No ceremony is needed: the targets role delegates to tiers.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			t, err := c.Approved(approval).RotateTierKey(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.Show("trust", t, func() string { return trustText(t) })
		},
	}
	approvalFlag(cmd, &approval)
	return cmd
}
