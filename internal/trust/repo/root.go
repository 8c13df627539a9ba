// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Role is who signs for something: at least Threshold of Keys.
type Role struct {
	Keys      []trust.PublicKey
	Threshold int
}

// Root is what a root says, without its signatures.
type Root struct {
	Version int64
	Expires time.Time
	Roles   map[string]Role // root, targets, snapshot, timestamp
}

// Check holds for every root that is written.
func (r *Root) Check() error {
	if r.Version < 1 {
		return badRoot("version %d: less than 1", r.Version)
	}
	for _, name := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
		role := r.Roles[name]
		ids := map[string]bool{}
		for _, k := range role.Keys {
			ids[k.ID()] = true
		}
		if role.Threshold < 1 || role.Threshold > len(ids) || len(ids) != len(role.Keys) {
			return badRoot("role %s: %d of %d different keys must sign", name, role.Threshold, len(ids))
		}
	}
	return nil
}

// Bytes is a root without signatures.
func (r *Root) Bytes() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	m := metadata.Root(seconds(r.Expires))
	m.Signed.Version = r.Version
	for name, role := range r.Roles {
		d := m.Signed.Roles[name]
		if d == nil {
			return nil, badRoot("role %s: unknown", name)
		}
		d.Threshold = role.Threshold
		for _, k := range role.Keys {
			d.KeyIDs = append(d.KeyIDs, k.ID())
			m.Signed.Keys[k.ID()] = tufKey(k)
		}
	}
	return m.ToBytes(true)
}

// ReadRoot reads a root, signed or not.
func ReadRoot(b []byte) (_ *Root, err error) {
	defer survive(&err)
	m, err := metadata.Root().FromBytes(b)
	if err != nil {
		return nil, malformed("root.json", err)
	}
	r := &Root{Version: m.Signed.Version, Expires: m.Signed.Expires, Roles: map[string]Role{}}
	for name, d := range m.Signed.Roles {
		role := Role{Threshold: d.Threshold}
		for _, id := range d.KeyIDs {
			k, err := publicKey(m.Signed.Keys[id])
			if err != nil {
				return nil, err
			}
			role.Keys = append(role.Keys, k)
		}
		r.Roles[name] = role
	}
	return r, r.Check()
}

func publicKey(k *metadata.Key) (trust.PublicKey, error) {
	if k == nil || k.Type != metadata.KeyTypeEd25519 {
		return trust.PublicKey{}, badRoot("a key is missing, or not an Ed25519 key")
	}
	b, err := hex.DecodeString(k.Value.PublicKey)
	if err != nil {
		return trust.PublicKey{}, badRoot("a key is not hex")
	}
	return trust.NewPublicKey(ed25519.PublicKey(b))
}

// SignRoot adds signatures to a root. Those that are there stay, and one of
// the same key is replaced, so a root can go from person to person.
func SignRoot(root []byte, keys ...*trust.Key) (_ []byte, err error) {
	defer survive(&err)
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		return nil, malformed("root.json", err)
	}
	body, err := canonical(m.Signed)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		m.Signatures = slices.DeleteFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == k.ID() })
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: k.ID(), Signature: k.Sign(body)})
	}
	return m.ToBytes(true)
}

// MergeRoots puts the signatures of copies of one root together, for people
// who signed at the same time in different places.
func MergeRoots(copies ...[]byte) (_ []byte, err error) {
	defer survive(&err)
	var first *rootMeta
	var body []byte
	for i, b := range copies {
		m, err := metadata.Root().FromBytes(b)
		if err != nil {
			return nil, malformed("root.json", err)
		}
		this, err := canonical(m.Signed)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first, body = m, this
			continue
		}
		if string(this) != string(body) {
			return nil, badRoot("the copies do not say the same")
		}
		for _, s := range m.Signatures {
			if !slices.ContainsFunc(first.Signatures, func(o metadata.Signature) bool { return o.KeyID == s.KeyID }) {
				first.Signatures = append(first.Signatures, s)
			}
		}
	}
	if first == nil {
		return nil, badRoot("nothing to merge")
	}
	return first.ToBytes(true)
}

// SignedBy returns the ids of keys, of this role or of any, whose signatures
// on a root hold. known are further keys, such as those of the root before.
func SignedBy(root []byte, known []trust.PublicKey) (_ []string, err error) {
	defer survive(&err)
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		return nil, malformed("root.json", err)
	}
	r, err := ReadRoot(root)
	if err != nil {
		return nil, err
	}
	body, err := canonical(m.Signed)
	if err != nil {
		return nil, err
	}
	keys := map[string]trust.PublicKey{}
	for _, k := range append(slices.Clone(r.Roles[RoleRoot].Keys), known...) {
		keys[k.ID()] = k
	}
	held := map[string]bool{}
	for _, s := range m.Signatures {
		if k, ok := keys[s.KeyID]; ok && k.Verify(body, s.Signature) {
			held[s.KeyID] = true
		}
	}
	return slices.Sorted(maps.Keys(held)), nil
}

// VerifyRoot checks that enough of a root's own keys signed it.
func VerifyRoot(root []byte) (err error) {
	defer survive(&err)
	if _, err := trustedmetadata.New(root); err != nil {
		return code.New("TS7131", "root.json", "").With(err)
	}
	_, err = ReadRoot(root)
	return err
}

// VerifySuccessor checks that next may follow current: the version after it,
// signed by enough keys of both.
func VerifySuccessor(current, next []byte) (err error) {
	defer survive(&err)
	t, err := trustedmetadata.New(current)
	if err != nil {
		return code.New("TS7131", "the present root", "").With(err)
	}
	if _, err := t.UpdateRoot(next); err != nil {
		return code.New("TS7131", "the new root", "").With(err)
	}
	_, err = ReadRoot(next)
	return err
}

// ImportRoot takes the next root. The keyring must hold enough keys of what
// it says, or nothing could be signed afterwards. Sign then signs with them.
func (r *Repo) ImportRoot(next []byte, now time.Time) error {
	if err := VerifySuccessor(r.files[RoleRoot], next); err != nil {
		return err
	}
	said, err := ReadRoot(next)
	if err != nil {
		return err
	}
	if !now.Before(said.Expires) {
		return badRoot("it has expired on %s", said.Expires.Format(time.DateOnly))
	}
	for _, role := range []string{RoleTargets, RoleSnapshot, RoleTimestamp} {
		var ids []string
		for _, k := range said.Roles[role].Keys {
			ids = append(ids, k.ID())
		}
		if _, err := r.keys.signers(role, ids, said.Roles[role].Threshold); err != nil {
			return err
		}
	}
	if err := r.loadRoot(next); err != nil {
		return err
	}
	r.dirty[RoleTargets], r.dirty[RoleSnapshot], r.dirty[RoleTimestamp] = true, true, true
	return nil
}

func badRoot(format string, args ...any) *code.Problem {
	return code.New("TS7131", "root.json", fmt.Sprintf(format, args...))
}
