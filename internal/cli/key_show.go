// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newKeyShowCommand(a *app) *cobra.Command {
	var passFile string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what a key or a TUF root says",
		Long: `show tells the id of a key, or what a root says: its version and expiry, which
keys sign for each role, how many must, and whose signatures it carries. For a
private key that is locked it asks for the passphrase, and so tells whether the
copy can be used.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := a.ReadFile(args[0])
			if err != nil {
				return err
			}
			if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
				r, err := rootOf(b, nil)
				if err != nil {
					return in(args[0], err)
				}
				return a.Show("root", r, func() string { return rootText(r) })
			}
			id := ""
			if public, err := trust.ParsePublicKey(b); err == nil {
				id = public.ID()
			} else {
				k, err := a.parseKey(cmd, args[0], b, passFile)
				if err != nil {
					return err
				}
				id = k.ID()
			}
			return a.Show("key", keyResult{ID: id, Locked: trust.Locked(b)}, func() string { return id + "\n" })
		},
	}
	cmd.Flags().StringVar(&passFile, "passphrase-file", "", "file whose first line is the passphrase of the key (default: it is asked for)")
	return cmd
}

// rootResult is a TUF root in JSON.
type rootResult struct {
	Version int64      `json:"version"`
	Expires time.Time  `json:"expires"`
	Digest  string     `json:"sha256"`
	Roles   []rootRole `json:"roles"`
	Signed  []string   `json:"signed"`  // ids of keys whose signatures hold
	Missing int        `json:"missing"` // signatures of its own keys that it still needs
}

type rootRole struct {
	Name      string   `json:"name"`
	Threshold int      `json:"threshold"`
	Keys      []string `json:"keys"`
}

// rootOf reads a root; before is the one that it follows, if there is one.
func rootOf(b, before []byte) (*rootResult, error) {
	r, err := repo.ReadRoot(b)
	if err != nil {
		return nil, err
	}
	var known []trust.PublicKey
	if before != nil {
		old, err := repo.ReadRoot(before)
		if err != nil {
			return nil, err
		}
		known = old.Roles[repo.RoleRoot].Keys
	}
	s := sha256.Sum256(b)
	out := &rootResult{Version: r.Version, Expires: r.Expires, Digest: hex.EncodeToString(s[:])}
	if out.Signed, err = repo.SignedBy(b, known); err != nil {
		return nil, err
	}
	for _, name := range []string{repo.RoleRoot, repo.RoleTargets, repo.RoleSnapshot, repo.RoleTimestamp} {
		role := rootRole{Name: name, Threshold: r.Roles[name].Threshold}
		for _, k := range r.Roles[name].Keys {
			role.Keys = append(role.Keys, k.ID())
		}
		out.Roles = append(out.Roles, role)
	}
	out.Missing = out.Roles[0].Threshold
	for _, id := range out.Roles[0].Keys {
		if slices.Contains(out.Signed, id) {
			out.Missing--
		}
	}
	out.Missing = max(0, out.Missing)
	return out, nil
}

func rootText(r *rootResult) string {
	var rows [][]string
	for _, role := range r.Roles {
		for i, id := range role.Keys {
			name, need := "", ""
			if i == 0 {
				name, need = role.Name, fmt.Sprintf("%d of %d", role.Threshold, len(role.Keys))
			}
			mark := ""
			if role.Name == repo.RoleRoot && slices.Contains(r.Signed, id) {
				mark = ui.Good("signed")
			}
			rows = append(rows, []string{name, need, id[:16], mark})
		}
	}
	state := ui.Good("signed by enough of its own keys")
	if r.Missing > 0 {
		state = ui.Warn(ui.Count(r.Missing, "signature") + " missing")
	}
	var others []string
	for _, id := range r.Signed {
		if !slices.Contains(r.Roles[0].Keys, id) {
			others = append(others, id[:16])
		}
	}
	text := ui.Bold(fmt.Sprintf("root, version %d", r.Version)) + "\n" + ui.Indent(ui.Pairs(
		[2]string{"expires", r.Expires.UTC().Format(time.DateOnly)},
		[2]string{"sha256", r.Digest},
		[2]string{"state", state},
		[2]string{"signed also by", strings.Join(others, ", ")},
	), 2)
	return text + "\n" + ui.Table([]string{"role", "needs", "key", ""}, rows)
}
