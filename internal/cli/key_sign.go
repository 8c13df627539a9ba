// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newKeySignCommand(a *app) *cobra.Command {
	var keys []string
	var out, passFile string
	cmd := &cobra.Command{
		Use:   "sign ROOT --key FILE",
		Short: "Sign a TUF root",
		Long: `sign adds signatures to a root, in its file or in another. Signatures that are
there stay, so that a root can go from one person to the next. Look at what
you sign first: tsugictl key show ROOT.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.ReadFile(args[0])
			if err != nil {
				return err
			}
			if _, err := repo.ReadRoot(b); err != nil {
				return in(args[0], err)
			}
			var signers []*trust.Key
			for _, path := range keys {
				k, err := a.readKey(cmd, path, passFile)
				if err != nil {
					return err
				}
				signers = append(signers, k)
			}
			if b, err = repo.SignRoot(b, signers...); err != nil {
				return err
			}
			return a.signed(cmp.Or(out, args[0]), b)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "`FILE` of a private key")
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default the root itself)")
	cmd.Flags().StringVar(&passFile, "passphrase-file", "", "file whose first line is the passphrase of the keys (default: it is asked for)")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

// signed writes a root that has got signatures and says what it needs yet.
func (a *app) signed(path string, b []byte) error {
	if err := command.WriteFile(path, b); err != nil {
		return err
	}
	r, err := rootOf(b, nil)
	if err != nil {
		return err
	}
	return a.Show("root", r, func() string { return rootText(r) })
}

func newKeyMergeCommand(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "merge ROOT... -o FILE",
		Short: "Put the signatures of copies of one root together",
		Long:  `merge is for people who signed copies of a root at the same time.`,
		Args:  cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var copies [][]byte
			for _, path := range args {
				b, err := a.ReadFile(path)
				if err != nil {
					return err
				}
				copies = append(copies, b)
			}
			b, err := repo.MergeRoots(copies...)
			if err != nil {
				return err
			}
			return a.signed(out, b)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func newKeyVerifyCommand(a *app) *cobra.Command {
	var after string
	cmd := &cobra.Command{
		Use:   "verify ROOT",
		Short: "Check that machines will follow a TUF root",
		Long: `verify checks that enough of a root's own keys have signed it and, with --after,
that it is the next version of another root and enough of that one's keys have
signed it too: what a machine that trusts that root checks.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := a.ReadFile(args[0])
			if err != nil {
				return err
			}
			var before []byte
			if after != "" {
				if before, err = a.ReadFile(after); err != nil {
					return err
				}
				if err := repo.VerifySuccessor(before, b); err != nil {
					return err
				}
			} else if err := repo.VerifyRoot(b); err != nil {
				return err
			}
			r, err := rootOf(b, before)
			if err != nil {
				return err
			}
			if r.Version > 1 && after == "" {
				return code.New("TS7131", args[0], fmt.Sprintf("version %d has one before it", r.Version)).
					WithFix("name it: --after the root of version " + fmt.Sprint(r.Version-1))
			}
			return a.Show("root", r, func() string { return ui.Good("✓") + " machines will follow it\n" + rootText(r) })
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "the root before it")
	return cmd
}
