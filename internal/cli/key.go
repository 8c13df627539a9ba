// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// addKeyCommands adds the ceremonies of TUF's keys.
func addKeyCommands(root *cobra.Command, a *app) {
	command.Group(root, "The keys that machines trust:", newKeyCommand(a))
}

func newKeyCommand(a *app) *cobra.Command {
	return command.Parent("key", "Make, use and replace the keys that machines trust",
		`A machine trusts a server's TUF root, which people sign with keys that are on
no server. These commands make such keys and roots, on a machine without a
network if you like: they work on files. Only status, fetch, import and rotate
talk to a server. docs/keys.md goes through each ceremony step by step.`,
		newKeyNewCommand(a), newKeyShowCommand(a), newKeyRootCommand(a), newKeySignCommand(a), newKeyMergeCommand(a),
		newKeyVerifyCommand(a), newKeyStatusCommand(a), newKeyFetchCommand(a), newKeyImportCommand(a), newKeyRotateCommand(a))
}

func newKeyNewCommand(a *app) *cobra.Command {
	var passFile string
	var unlocked bool
	cmd := &cobra.Command{
		Use:   "new FILE",
		Short: "Make a key",
		Long: `new makes an Ed25519 key and writes two files: FILE, the private key, which
only its owner can read, and FILE.pub, the public key, which may go anywhere.
The private key is locked with a passphrase unless --no-passphrase is given,
as it must be for the keys that a server signs with by itself.`,
		Example: "  tsugictl key new ann.pem\n  tsugictl key new /etc/tsugi-server/keys/timestamp-2.pem --no-passphrase",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var pass []byte
			if !unlocked {
				p, err := a.newPassphrase(cmd, passFile, args[0])
				if err != nil {
					return err
				}
				pass = p
			}
			return a.keyNew(args[0], pass)
		},
	}
	cmd.Flags().StringVar(&passFile, "passphrase-file", "", "file whose first line is the passphrase (default: it is asked for)")
	cmd.Flags().BoolVar(&unlocked, "no-passphrase", false, "leave the key unlocked")
	cmd.MarkFlagsMutuallyExclusive("passphrase-file", "no-passphrase")
	return cmd
}

// keyResult is a key in JSON.
type keyResult struct {
	ID      string `json:"id"`
	Private string `json:"private,omitempty"` // paths
	Public  string `json:"public,omitempty"`
	Locked  bool   `json:"locked"`
}

func (a *app) keyNew(path string, pass []byte) error {
	public := path + ".pub"
	for _, p := range []string{path, public} {
		if _, err := os.Lstat(p); err == nil {
			return code.New("TS7710", p, "")
		}
	}
	k, err := trust.GenerateKey()
	if err != nil {
		return err
	}
	private, err := k.PEM(pass)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, private, 0o600, renameio.IgnoreUmask()); err != nil {
		return command.FileProblem("TS1903", path, err)
	}
	if err := command.WriteFile(public, k.Public().PEM()); err != nil {
		return err
	}
	r := keyResult{ID: k.ID(), Private: path, Public: public, Locked: len(pass) > 0}
	return a.Show("key", r, func() string { return r.ID + "\n" })
}

// newPassphrase is one for a new key: of a file, or asked for twice.
func (a *app) newPassphrase(cmd *cobra.Command, file, what string) ([]byte, error) {
	if file != "" {
		return a.passphraseFile(file)
	}
	first, err := a.askPassphrase(cmd, "New passphrase of "+what+": ")
	if err != nil {
		return nil, err
	}
	if len(first) < 8 {
		return nil, command.Usage(cmd.CommandPath(), "the passphrase is shorter than 8 characters")
	}
	second, err := a.askPassphrase(cmd, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, command.Usage(cmd.CommandPath(), "the two passphrases differ")
	}
	return first, nil
}

func (a *app) passphraseFile(path string) ([]byte, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
		return nil, code.New("TS7103", path, "its first line is empty")
	}
	return line, nil
}

// askPassphrase asks a person, without showing the answer.
func (a *app) askPassphrase(cmd *cobra.Command, prompt string) ([]byte, error) {
	answer, err := a.Ask(cmd.Context(), prompt)
	if errors.Is(err, command.ErrNobodyToAsk) {
		return nil, command.Usage(cmd.CommandPath(), "there is no terminal to ask for the passphrase on: give --passphrase-file")
	}
	return []byte(answer), err
}

// readKey reads a private key, asking for its passphrase if it is locked.
func (a *app) readKey(cmd *cobra.Command, path, passFile string) (*trust.Key, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return a.parseKey(cmd, path, b, passFile)
}

func (a *app) parseKey(cmd *cobra.Command, path string, b []byte, passFile string) (*trust.Key, error) {
	k, err := trust.ParseKey(b, func() ([]byte, error) {
		if passFile != "" {
			return a.passphraseFile(passFile)
		}
		return a.askPassphrase(cmd, "Passphrase of "+path+": ")
	})
	if err != nil {
		return nil, in(path, err)
	}
	return k, nil
}

func (a *app) readPublic(path string) (trust.PublicKey, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return trust.PublicKey{}, err
	}
	k, err := trust.ParsePublicKey(b)
	if err != nil {
		return trust.PublicKey{}, in(path, err)
	}
	return k, nil
}

// in says in which file a problem is.
func in(path string, err error) error {
	if p, ok := err.(*code.Problem); ok && p.Where == "" { //nolint:errorlint // only this very problem is amended
		p.Where = path
	}
	return err
}
