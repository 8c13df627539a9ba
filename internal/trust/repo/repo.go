// SPDX-License-Identifier: Apache-2.0

// Package repo writes a TUF repository: metadata in, keys and a time in,
// signed metadata out. It touches no file and no clock. Package publish keeps
// what it makes; package updater follows it on machines.
//
// The repository has consistent snapshots (VERSION.ROLE.json) and targets
// with their digest in the name (edge/DIGEST.NAME). The targets role holds no
// targets of its own: it delegates NAME/* to the role tier-NAME, terminating,
// for each tier.
package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// The roles that every repository has.
const (
	RoleRoot      = metadata.ROOT
	RoleTargets   = metadata.TARGETS
	RoleSnapshot  = metadata.SNAPSHOT
	RoleTimestamp = metadata.TIMESTAMP
)

// Lifetimes say how long a signature of each role is good for.
type Lifetimes struct {
	Root, Targets, Tier, Snapshot, Timestamp time.Duration
	// Resign is the age at which a timestamp is made anew although nothing has
	// changed. All other roles are signed again when a third of their life is
	// left.
	Resign time.Duration
}

// DefaultLifetimes are those of a fresh installation.
func DefaultLifetimes() Lifetimes {
	const day = 24 * time.Hour
	return Lifetimes{Root: 730 * day, Targets: 90 * day, Tier: 90 * day, Snapshot: 7 * day, Timestamp: day, Resign: time.Hour}
}

// Keyring holds the private keys that are at hand. Which of them sign for a
// role is said by the metadata, so a new key is put beside the old one and
// takes over when the root, or the targets role, names it.
type Keyring []*trust.Key

func (k Keyring) signers(role string, ids []string, threshold int) ([]*trust.Key, error) {
	var out []*trust.Key
	for _, key := range k {
		if slices.Contains(ids, key.ID()) {
			out = append(out, key)
		}
	}
	if len(out) < max(1, threshold) {
		return nil, code.New("TS7130", role, fmt.Sprintf("%d of the %d keys that must sign are here", len(out), max(1, threshold)))
	}
	return out, nil
}

// Target is a file of a tier.
type Target struct {
	Length int64
	SHA256 string // hex
}

// TargetOf is the target of these bytes.
func TargetOf(b []byte) Target {
	s := sha256.Sum256(b)
	return Target{Length: int64(len(b)), SHA256: hex.EncodeToString(s[:])}
}

// FilePath is where the file of a target lies below targets/.
func (t Target) FilePath(targetPath string) string {
	dir, name := path.Split(targetPath)
	return dir + t.SHA256 + "." + name
}

// Tier is a tier with the keys that sign for it.
type Tier struct {
	Name string
	Keys []trust.PublicKey
}

type (
	rootMeta      = metadata.Metadata[metadata.RootType]
	targetsMeta   = metadata.Metadata[metadata.TargetsType]
	snapshotMeta  = metadata.Metadata[metadata.SnapshotType]
	timestampMeta = metadata.Metadata[metadata.TimestampType]
)

// Repo is the newest state of a repository. It is not safe for concurrent use.
type Repo struct {
	life Lifetimes
	keys Keyring

	root      *rootMeta
	targets   *targetsMeta
	snapshot  *snapshotMeta
	timestamp *timestampMeta
	tiers     map[string]*targetsMeta // by role name

	files map[string][]byte // newest signed bytes by role
	dirty map[string]bool   // roles that have changed since
}

// New makes a repository of a signed root. Sign makes its first metadata.
func New(root []byte, keys Keyring, life Lifetimes, tiers []Tier) (*Repo, error) {
	r := &Repo{life: life, keys: keys, tiers: map[string]*targetsMeta{}, files: map[string][]byte{}, dirty: map[string]bool{}}
	if err := r.loadRoot(root); err != nil {
		return nil, err
	}
	r.targets = metadata.Targets(time.Time{})
	r.targets.Signed.Version = 0
	r.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	r.snapshot = metadata.Snapshot(time.Time{})
	r.snapshot.Signed.Version = 0
	r.snapshot.Signed.Meta = map[string]*metadata.MetaFiles{}
	r.timestamp = metadata.Timestamp(time.Time{})
	r.timestamp.Signed.Version = 0
	r.dirty[RoleTargets] = true
	for _, t := range tiers {
		if err := r.AddTier(t); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Open goes on with a repository whose newest metadata is given by role.
func Open(files map[string][]byte, keys Keyring, life Lifetimes) (_ *Repo, err error) {
	defer survive(&err)
	r := &Repo{life: life, keys: keys, tiers: map[string]*targetsMeta{}, files: maps.Clone(files), dirty: map[string]bool{}}
	if err := r.loadRoot(files[RoleRoot]); err != nil {
		return nil, err
	}
	if r.targets, err = metadata.Targets().FromBytes(files[RoleTargets]); err != nil {
		return nil, malformed(RoleTargets, err)
	}
	if r.snapshot, err = metadata.Snapshot().FromBytes(files[RoleSnapshot]); err != nil {
		return nil, malformed(RoleSnapshot, err)
	}
	if r.timestamp, err = metadata.Timestamp().FromBytes(files[RoleTimestamp]); err != nil {
		return nil, malformed(RoleTimestamp, err)
	}
	if r.targets.Signed.Delegations == nil {
		return nil, malformed(RoleTargets, fmt.Errorf("no delegations"))
	}
	for _, d := range r.targets.Signed.Delegations.Roles {
		m, err := metadata.Targets().FromBytes(files[d.Name])
		if err != nil {
			return nil, malformed(d.Name, err)
		}
		if m.Signed.Targets == nil {
			m.Signed.Targets = map[string]*metadata.TargetFiles{}
		}
		r.tiers[d.Name] = m
	}
	return r, nil
}

func (r *Repo) loadRoot(b []byte) (err error) {
	defer survive(&err)
	m, err := metadata.Root().FromBytes(b)
	if err != nil {
		return malformed(RoleRoot, err)
	}
	if err := m.VerifyDelegate(RoleRoot, m); err != nil {
		return code.New("TS7131", "root.json", "").With(err)
	}
	r.root, r.files[RoleRoot] = m, b
	return nil
}

// Tiers are the names of the tiers, in the order in which they came.
func (r *Repo) Tiers() []string {
	var out []string
	for _, d := range r.targets.Signed.Delegations.Roles {
		out = append(out, strings.TrimPrefix(d.Name, trust.TierRole("")))
	}
	return out
}

// AddTier delegates a tier's paths to its keys.
func (r *Repo) AddTier(t Tier) error {
	if !trust.TierName(t.Name) || len(t.Keys) == 0 {
		return fmt.Errorf("tier %q: a name and keys are needed", t.Name)
	}
	role := trust.TierRole(t.Name)
	if _, ok := r.tiers[role]; ok {
		return fmt.Errorf("tier %q is there already", t.Name)
	}
	d := r.targets.Signed.Delegations
	d.Roles = append(d.Roles, metadata.DelegatedRole{Name: role, KeyIDs: []string{}, Threshold: 1, Terminating: true, Paths: []string{t.Name + "/*"}})
	m := metadata.Targets(time.Time{})
	m.Signed.Version = 0
	if old := r.snapshot.Signed.Meta[role+".json"]; old != nil {
		m.Signed.Version = old.Version // a tier of this name was there before
	}
	r.tiers[role] = m
	r.dirty[RoleTargets], r.dirty[role] = true, true
	return r.RotateTier(t.Name, t.Keys)
}

// RotateTier gives a tier other keys. What the old ones signed is signed anew.
func (r *Repo) RotateTier(name string, keys []trust.PublicKey) error {
	role := trust.TierRole(name)
	d := r.targets.Signed.Delegations
	i := slices.IndexFunc(d.Roles, func(x metadata.DelegatedRole) bool { return x.Name == role })
	if i < 0 || len(keys) == 0 {
		return fmt.Errorf("tier %q: no such tier, or no keys", name)
	}
	d.Roles[i].KeyIDs = []string{}
	for _, k := range keys {
		d.Roles[i].KeyIDs = append(d.Roles[i].KeyIDs, k.ID())
		d.Keys[k.ID()] = tufKey(k)
	}
	for id := range d.Keys {
		if !slices.ContainsFunc(d.Roles, func(x metadata.DelegatedRole) bool { return slices.Contains(x.KeyIDs, id) }) {
			delete(d.Keys, id)
		}
	}
	r.dirty[RoleTargets], r.dirty[role] = true, true
	return nil
}

// RemoveTier takes a tier away. Its last version stays in the snapshots:
// machines take its disappearance there for an attack.
func (r *Repo) RemoveTier(name string) {
	role := trust.TierRole(name)
	d := r.targets.Signed.Delegations
	d.Roles = slices.DeleteFunc(d.Roles, func(x metadata.DelegatedRole) bool { return x.Name == role })
	for id := range d.Keys {
		if !slices.ContainsFunc(d.Roles, func(x metadata.DelegatedRole) bool { return slices.Contains(x.KeyIDs, id) }) {
			delete(d.Keys, id)
		}
	}
	delete(r.tiers, role)
	delete(r.files, role)
	delete(r.dirty, role)
	r.dirty[RoleTargets] = true
}

// TierKeys are the ids of the keys that sign for a tier.
func (r *Repo) TierKeys(name string) []string {
	for _, d := range r.targets.Signed.Delegations.Roles {
		if d.Name == trust.TierRole(name) {
			return slices.Clone(d.KeyIDs)
		}
	}
	return nil
}

// SetTarget puts a file into a tier, or another one in its place.
func (r *Repo) SetTarget(tier, targetPath string, t Target) error {
	m, ok := r.tiers[trust.TierRole(tier)]
	if !ok || path.Dir(targetPath) != tier {
		return fmt.Errorf("target %s: not of a tier that is there", targetPath)
	}
	sum, err := hex.DecodeString(t.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("target %s: digest %q", targetPath, t.SHA256)
	}
	if old, ok := r.Target(tier, targetPath); ok && old == t {
		return nil
	}
	m.Signed.Targets[targetPath] = &metadata.TargetFiles{Length: t.Length, Hashes: metadata.Hashes{"sha256": sum}, Path: targetPath}
	r.dirty[trust.TierRole(tier)] = true
	return nil
}

// RemoveTarget takes a file out of a tier.
func (r *Repo) RemoveTarget(tier, targetPath string) {
	role := trust.TierRole(tier)
	if m, ok := r.tiers[role]; ok && m.Signed.Targets[targetPath] != nil {
		delete(m.Signed.Targets, targetPath)
		r.dirty[role] = true
	}
}

// Target returns a file of a tier.
func (r *Repo) Target(tier, targetPath string) (Target, bool) {
	m, ok := r.tiers[trust.TierRole(tier)]
	if !ok || m.Signed.Targets[targetPath] == nil {
		return Target{}, false
	}
	f := m.Signed.Targets[targetPath]
	return Target{Length: f.Length, SHA256: hex.EncodeToString(f.Hashes["sha256"])}, true
}

// Targets are all files of a tier by path.
func (r *Repo) Targets(tier string) map[string]Target {
	out := map[string]Target{}
	if m, ok := r.tiers[trust.TierRole(tier)]; ok {
		for p := range m.Signed.Targets {
			out[p], _ = r.Target(tier, p)
		}
	}
	return out
}

// Root is the newest root.
func (r *Repo) Root() []byte { return r.files[RoleRoot] }

// ByRole is the newest metadata by role: what Open takes.
func (r *Repo) ByRole() map[string][]byte { return maps.Clone(r.files) }

// Files is the newest metadata under the names that machines ask for.
func (r *Repo) Files() map[string][]byte {
	out := map[string][]byte{}
	versions := r.Versions()
	for role, b := range r.files {
		out[FileName(role, versions[role])] = b
	}
	return out
}

// FileName is the name that machines ask for a version of a role by.
func FileName(role string, version int64) string {
	if role == RoleTimestamp {
		return "timestamp.json"
	}
	return fmt.Sprintf("%d.%s.json", version, role)
}

// UseKeys puts other keys in the place of those that Open was given.
func (r *Repo) UseKeys(keys Keyring) { r.keys = keys }

// Versions are the version numbers by role.
func (r *Repo) Versions() map[string]int64 {
	out := map[string]int64{RoleRoot: r.root.Signed.Version, RoleTargets: r.targets.Signed.Version, RoleSnapshot: r.snapshot.Signed.Version, RoleTimestamp: r.timestamp.Signed.Version}
	for role, m := range r.tiers {
		out[role] = m.Signed.Version
	}
	return out
}

// Expiries are the ends of the signatures by role.
func (r *Repo) Expiries() map[string]time.Time {
	out := map[string]time.Time{RoleRoot: r.root.Signed.Expires, RoleTargets: r.targets.Signed.Expires, RoleSnapshot: r.snapshot.Signed.Expires, RoleTimestamp: r.timestamp.Signed.Expires}
	for role, m := range r.tiers {
		out[role] = m.Signed.Expires
	}
	return out
}

func tufKey(k trust.PublicKey) *metadata.Key {
	return &metadata.Key{Type: metadata.KeyTypeEd25519, Scheme: metadata.KeySchemeEd25519, Value: metadata.KeyVal{PublicKey: hex.EncodeToString(k.Bytes())}}
}

func canonical(signed any) ([]byte, error) {
	b, err := cjson.EncodeCanonical(signed)
	if err != nil {
		return nil, fmt.Errorf("canonical json: %w", err)
	}
	return b, nil
}

func malformed(role string, err error) error {
	return code.New("TS7121", role, "").With(err)
}

// survive turns a panic of the library into an error: entries that are null
// in JSON are nil pointers to it.
func survive(err *error) {
	if r := recover(); r != nil {
		*err = code.New("TS7121", "", fmt.Sprint(r))
	}
}
