// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// identityFile holds the server's own age identity; every other file of the
// directory that ends in .pem is a key that signs.
const identityFile = "identity.age"

// Keys are what a server signs and opens with.
type Keys struct {
	Ring     repo.Keyring          // all that sign
	Tiers    map[string]*trust.Key // those of them that were made for a tier, by its name
	Identity trust.Identity
}

// KeySetOptions say what NewKeySet makes.
type KeySetOptions struct {
	Dir        string // of the online keys
	OfflineDir string // of the root keys, to be carried away
	Passphrase []byte // of the root keys; empty: they are not locked
	Roots      int    // root keys; 0: one
	Threshold  int    // of them that must sign; 0: more than half
	Tiers      []string
	Lifetimes  repo.Lifetimes
	Now        time.Time
}

// KeySet is what NewKeySet made.
type KeySet struct {
	Root    []byte   // the first TUF root, signed
	Digest  string   // its SHA-256, which enrolment carries to machines
	Offline []string // paths of the root keys
	Keys    Keys
}

// NewKeySet makes the keys of a new installation and its first root, and
// writes the keys, each in a file of mode 0600. It overwrites nothing.
func NewKeySet(o KeySetOptions) (*KeySet, error) {
	if o.Roots == 0 {
		o.Roots = 1
	}
	if o.Threshold == 0 {
		o.Threshold = o.Roots/2 + 1
	}
	for _, dir := range []string{o.Dir, o.OfflineDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, code.New("TS1903", dir, "").With(err)
		}
	}
	set := &KeySet{Keys: Keys{Tiers: map[string]*trust.Key{}}}
	root := &repo.Root{Version: 1, Expires: o.Now.Add(o.Lifetimes.Root), Roles: map[string]repo.Role{}}
	var signers []*trust.Key
	for i := range o.Roots {
		path := filepath.Join(o.OfflineDir, fmt.Sprintf("root-%d.pem", i+1))
		k, err := newKeyFile(path, o.Passphrase)
		if err != nil {
			return nil, err
		}
		set.Offline, signers = append(set.Offline, path), append(signers, k)
	}
	public := func(keys []*trust.Key) (out []trust.PublicKey) {
		for _, k := range keys {
			out = append(out, k.Public())
		}
		return out
	}
	root.Roles[repo.RoleRoot] = repo.Role{Keys: public(signers), Threshold: o.Threshold}
	for _, role := range []string{repo.RoleTargets, repo.RoleSnapshot, repo.RoleTimestamp} {
		k, err := newKeyFile(filepath.Join(o.Dir, role+".pem"), nil)
		if err != nil {
			return nil, err
		}
		root.Roles[role] = repo.Role{Keys: public([]*trust.Key{k}), Threshold: 1}
		set.Keys.Ring = append(set.Keys.Ring, k)
	}
	for _, tier := range o.Tiers {
		k, err := newKeyFile(filepath.Join(o.Dir, trust.TierRole(tier)+".pem"), nil)
		if err != nil {
			return nil, err
		}
		set.Keys.Ring = append(set.Keys.Ring, k)
		set.Keys.Tiers[tier] = k
	}
	id, err := trust.NewIdentity()
	if err != nil {
		return nil, err
	}
	set.Keys.Identity = id
	if err := newFile(filepath.Join(o.Dir, identityFile), []byte(id.Secret()+"\n")); err != nil {
		return nil, err
	}
	unsigned, err := root.Bytes()
	if err != nil {
		return nil, err
	}
	if set.Root, err = repo.SignRoot(unsigned, signers...); err != nil {
		return nil, err
	}
	set.Digest = digest(set.Root)
	return set, repo.VerifyRoot(set.Root)
}

func newKeyFile(path string, passphrase []byte) (*trust.Key, error) {
	k, err := trust.GenerateKey()
	if err != nil {
		return nil, err
	}
	file, err := k.PEM(passphrase)
	if err != nil {
		return nil, err
	}
	return k, newFile(path, file)
}

// newFile writes a secret where no file is yet. A key that is replaced by
// mistake is a key that is lost.
func newFile(path string, b []byte) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return code.New("TS7710", path, "")
	}
	if err := renameio.WriteFile(path, b, 0o600, renameio.IgnoreUmask()); err != nil {
		return code.New("TS1903", path, "").With(err)
	}
	return nil
}

// LoadKeys reads the directory that NewKeySet filled, with whatever keys were
// put beside since.
func LoadKeys(dir string) (Keys, error) {
	keys := Keys{Tiers: map[string]*trust.Key{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return keys, code.New("TS7711", dir, "").With(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasSuffix(e.Name(), ".pem") && e.Name() != identityFile {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			return keys, code.New("TS7712", path, fmt.Sprintf("its mode is %04o", info.Mode().Perm())).WithFix("chmod 600 " + path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return keys, code.New("TS7711", path, "").With(err)
		}
		if e.Name() == identityFile {
			if keys.Identity, err = trust.ParseIdentity(string(b)); err != nil {
				return keys, fmt.Errorf("%s: %w", path, err)
			}
			continue
		}
		k, err := trust.ParseKey(b, nil)
		if err != nil {
			return keys, fmt.Errorf("%s: %w", path, err)
		}
		if !slices.ContainsFunc(keys.Ring, func(o *trust.Key) bool { return o.ID() == k.ID() }) {
			keys.Ring = append(keys.Ring, k)
		}
		if tier, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".pem"), trust.TierRole("")); ok {
			keys.Tiers[tier] = k
		}
	}
	if keys.Identity == (trust.Identity{}) {
		return keys, code.New("TS7711", filepath.Join(dir, identityFile), "it is missing")
	}
	return keys, nil
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
