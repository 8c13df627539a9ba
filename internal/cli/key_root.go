// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

func newKeyRootCommand(a *app) *cobra.Command {
	return command.Parent("root", "Write the first TUF root, or the one after a root",
		`A root says which keys sign for which role. It is a file that people sign with
tsugictl key sign; machines follow from one root to the next only when enough
of the keys of both have signed it.`,
		newKeyRootNewCommand(a), newKeyRootNextCommand(a))
}

// rootFlags are what a root is made of.
type rootFlags struct {
	out                                string
	root, targets, snapshot, timestamp []string // files of public keys
	threshold                          int
	life                               time.Duration
}

func (f *rootFlags) add(cmd *cobra.Command, verb string) {
	cmd.Flags().StringVarP(&f.out, "output", "o", "", "file to write")
	cmd.Flags().StringSliceVar(&f.targets, "targets", nil, "public key `FILE` that signs for targets"+verb)
	cmd.Flags().StringSliceVar(&f.snapshot, "snapshot", nil, "public key `FILE` that signs for snapshot"+verb)
	cmd.Flags().StringSliceVar(&f.timestamp, "timestamp", nil, "public key `FILE` that signs for timestamp"+verb)
	cmd.Flags().IntVar(&f.threshold, "threshold", 0, "root keys that must sign"+verb)
	cmd.Flags().DurationVar(&f.life, "life", repo.DefaultLifetimes().Root, "how long the root is good for, from now")
	_ = cmd.MarkFlagRequired("output")
}

func (a *app) publicKeys(files []string) (out []trust.PublicKey, err error) {
	for _, f := range files {
		k, err := a.readPublic(f)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// online puts the keys of the roles that a server signs for into a root.
func (a *app) online(r *repo.Root, f *rootFlags) error {
	for role, files := range map[string][]string{repo.RoleTargets: f.targets, repo.RoleSnapshot: f.snapshot, repo.RoleTimestamp: f.timestamp} {
		if len(files) == 0 {
			continue
		}
		keys, err := a.publicKeys(files)
		if err != nil {
			return err
		}
		r.Roles[role] = repo.Role{Keys: keys, Threshold: 1}
	}
	return nil
}

func (a *app) writeRoot(r *repo.Root, path string) error {
	b, err := r.Bytes()
	if err != nil {
		return err
	}
	if err := command.WriteFile(path, b); err != nil {
		return err
	}
	res, err := rootOf(b, nil)
	if err != nil {
		return err
	}
	return a.Show("root", res, func() string {
		a.Term.Say("Now let people sign it: tsugictl key sign %s --key FILE", path)
		return rootText(res)
	})
}

func newKeyRootNewCommand(a *app) *cobra.Command {
	var f rootFlags
	cmd := &cobra.Command{
		Use:     "new -o FILE --root FILE... --targets FILE --snapshot FILE --timestamp FILE",
		Short:   "Write the first root of a new installation",
		Example: "  tsugictl key root new -o 1.root.json --root ann.pem.pub --root ben.pem.pub --root cleo.pem.pub --threshold 2 \\\n    --targets targets.pem.pub --snapshot snapshot.pem.pub --timestamp timestamp.pem.pub",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			people, err := a.publicKeys(f.root)
			if err != nil {
				return err
			}
			if f.threshold == 0 {
				f.threshold = len(people)/2 + 1
			}
			r := &repo.Root{Version: 1, Expires: time.Now().Add(f.life), Roles: map[string]repo.Role{repo.RoleRoot: {Keys: people, Threshold: f.threshold}}}
			if err := a.online(r, &f); err != nil {
				return err
			}
			return a.writeRoot(r, f.out)
		},
	}
	f.add(cmd, "")
	cmd.Flags().StringSliceVar(&f.root, "root", nil, "public key `FILE` of someone who signs roots")
	for _, n := range []string{"root", "targets", "snapshot", "timestamp"} {
		_ = cmd.MarkFlagRequired(n)
	}
	return cmd
}

func newKeyRootNextCommand(a *app) *cobra.Command {
	var f rootFlags
	var remove []string
	cmd := &cobra.Command{
		Use:   "next ROOT -o FILE",
		Short: "Write the root that follows a root",
		Long: `next writes the next version of a root: the same with a new expiry, and with
what the flags change. A role that is given keys has these and no others. The
result needs the signatures of enough keys of ROOT, and of enough of its own.`,
		Example: "  tsugictl key root next 1.root.json -o 2.root.json                                 # a new expiry\n  tsugictl key root next 1.root.json -o 2.root.json --timestamp timestamp-2.pem.pub    # a replaced key\n  tsugictl key root next 1.root.json -o 2.root.json --add dora.pem.pub --remove 3fa4   # another person",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.ReadFile(args[0])
			if err != nil {
				return err
			}
			if err := repo.VerifyRoot(b); err != nil {
				return err
			}
			r, err := repo.ReadRoot(b)
			if err != nil {
				return err
			}
			r.Version++
			r.Expires = time.Now().Add(f.life)
			if err := a.people(cmd, r, f.root, remove, f.threshold); err != nil {
				return err
			}
			if err := a.online(r, &f); err != nil {
				return err
			}
			return a.writeRoot(r, f.out)
		},
	}
	f.add(cmd, " (default as it is)")
	cmd.Flags().StringSliceVar(&f.root, "add", nil, "public key `FILE` of someone more who signs roots")
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "start of the `ID` of a root key that goes")
	return cmd
}

// people changes who signs roots.
func (a *app) people(cmd *cobra.Command, r *repo.Root, add, remove []string, threshold int) error {
	role := r.Roles[repo.RoleRoot]
	for _, start := range remove {
		var hits []int
		for i, k := range role.Keys {
			if strings.HasPrefix(k.ID(), start) {
				hits = append(hits, i)
			}
		}
		if len(hits) != 1 {
			return command.Usage(cmd.CommandPath(), fmt.Sprintf("%q is the start of %d root keys", start, len(hits)))
		}
		role.Keys = slices.Delete(role.Keys, hits[0], hits[0]+1)
	}
	more, err := a.publicKeys(add)
	if err != nil {
		return err
	}
	role.Keys = append(role.Keys, more...)
	if threshold > 0 {
		role.Threshold = threshold
	}
	r.Roles[repo.RoleRoot] = role
	return nil
}
