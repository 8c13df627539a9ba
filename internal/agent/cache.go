// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// The cache holds what a boot needs before the network is up: for each live
// patch the encrypted file, its wrapped key and a Card, and for the kernel the
// last signed index. All of them were verified when they came; their digests
// are checked each time that they are used.
const (
	patchDir  = "patches"
	indexName = "index.json"
	maxCard   = 16 << 20 // a live patch of a whole update has thousands of functions
)

// Card is what the agent keeps beside a cached live patch.
type Card struct {
	Offer  trust.Offer `json:"offer"`
	Tier   string      `json:"tier,omitempty"` // "" for a file that root applied by hand
	Cipher string      `json:"cipher_sha256"`  // of the encrypted file
	Key    string      `json:"key,omitempty"`  // wrapped for this machine; "": the file is as root gave it
	// From the manifest.
	Target    livepatch.TargetRef  `json:"target"`
	Fixes     []livepatch.FixRef   `json:"fixes"`
	Functions []livepatch.Function `json:"functions"`
	Selection *livepatch.Selection `json:"selection,omitempty"`
	Open      []livepatch.OpenFix  `json:"open,omitempty"`
	Callbacks []string             `json:"callbacks,omitempty"` // objects that it has callbacks for
	// Replacements are its fixed modules.
	Replacements []FixedBuild `json:"replacements,omitempty"`
	// States are its klp_states. A live patch of format 1 does not say them.
	States []livepatch.State `json:"states,omitempty"`
	Format int               `json:"format,omitempty"` // of the manifest
	// Packages are the binary packages whose files it changes, for a live patch of
	// a package.
	Packages []string `json:"packages,omitempty"`

	policy string // from whose index it is applied
}

// FixedBuild is a fixed module, with its own build-id: by it the loaded module is
// known.
type FixedBuild struct {
	livepatch.Replacement
	Fixed string `json:"fixed_build_id"`
}

func cipherFile(id string) string { return patchDir + "/" + id + ".tsugi.age" }
func cardFile(id string) string   { return patchDir + "/" + id + ".json" }

// ref is how reports name the live patch.
func (c *Card) ref() api.Patch {
	return api.Patch{ID: c.Offer.ID, Name: c.Offer.Name, Version: c.Offer.Version, Policy: c.policy}
}

func (c *Card) functions() []string {
	var names []string
	for _, f := range c.Functions {
		names = append(names, f.Name)
	}
	return names
}

// objects are vmlinux and the modules that the live patch changes in the kernel.
func (c *Card) objects() []string {
	m := livepatch.Manifest{Functions: c.Functions, Callbacks: c.Callbacks}
	return m.Objects()
}

func newCard(o trust.Offer, tier string, p *livepatch.Patch, cipher []byte, key string) (*Card, error) {
	m := &p.Manifest
	c := &Card{
		Offer: o, Tier: tier, Cipher: digest(cipher), Key: key, Target: m.Target, Fixes: m.Fixes, Functions: m.Functions,
		Selection: m.Selection, Open: m.Open, Callbacks: m.Callbacks, States: m.States, Format: m.Format,
	}
	for _, f := range m.Files {
		if !slices.Contains(c.Packages, f.Package) {
			c.Packages = append(c.Packages, f.Package)
		}
	}
	for _, r := range m.Replacements {
		id, err := moduleBuildID(p.Payload(r.Module))
		if err != nil {
			return nil, code.New("TS9431", r.Name, "").With(err)
		}
		c.Replacements = append(c.Replacements, FixedBuild{r, id})
	}
	return c, nil
}

// manifest is as much of the manifest as the card has.
func (c *Card) manifest() *livepatch.Manifest {
	return &livepatch.Manifest{Format: c.Format, Name: c.Offer.Name, Version: c.Offer.Version, States: c.States}
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// card reads the card of a cached live patch; nil without an error when there
// is none.
func (a *Agent) card(id string) (*Card, error) {
	b, err := a.disk.ReadFile(cardFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskProblem(cardFile(id), err)
	}
	return parseCard(b, id)
}

func parseCard(b []byte, id string) (*Card, error) {
	var c Card
	if len(b) > maxCard {
		return nil, code.New("TS9406", cardFile(id), fmt.Sprintf("%d bytes", len(b)))
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, code.New("TS9406", cardFile(id), "").With(err)
	}
	if c.Offer.ID != id || c.Offer.Version < 1 || c.Offer.Name == "" || !isDigest(c.Offer.Digest) || !isDigest(c.Cipher) || (c.Key == "") != (c.Tier == "") {
		return nil, code.New("TS9406", cardFile(id), "it does not describe this live patch")
	}
	return &c, nil
}

// keep puts a verified live patch into the cache. The card comes last: with it
// everything is there.
func (a *Agent) keep(c *Card, cipher []byte) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if len(b) > maxCard {
		return code.New("TS9406", cardFile(c.Offer.ID), fmt.Sprintf("%d bytes", len(b)))
	}
	if err := a.space(int64(len(cipher) + len(b))); err != nil {
		return err
	}
	if err := a.disk.WriteFile(cipherFile(c.Offer.ID), cipher); err != nil {
		return err
	}
	return a.disk.WriteFile(cardFile(c.Offer.ID), b)
}

// reserve is what the cache leaves free: the journal must be able to grow.
const reserve = 8 << 20

func (a *Agent) space(n int64) error {
	free, err := a.disk.Free()
	if err != nil {
		return err
	}
	if free < n+reserve {
		return code.New("TS9103", patchDir, fmt.Sprintf("%d MB are needed and %d MB are free", (n+reserve)>>20, free>>20)).
			WithFix("free some space; the agent tries again by itself")
	}
	return nil
}

// cached returns a live patch of the cache, verified anew. Nothing of it is
// believed that the card and the journal do not vouch for.
func (a *Agent) cached(id string) (*livepatch.Patch, *Card, error) {
	_, p, c, err := a.cachedFile(id)
	return p, c, err
}

// cachedFile is cached, with the bytes of the live patch.
func (a *Agent) cachedFile(id string) ([]byte, *livepatch.Patch, *Card, error) {
	c, err := a.card(id)
	if err != nil {
		return nil, nil, nil, err
	}
	if c == nil {
		return nil, nil, nil, code.New("TS9406", id, "it is not in the cache")
	}
	cipher, err := a.disk.ReadFile(cipherFile(id))
	if err != nil {
		return nil, nil, nil, code.New("TS9406", cipherFile(id), "").With(err)
	}
	if digest(cipher) != c.Cipher {
		return nil, nil, nil, code.New("TS9406", cipherFile(id), "the file is not what was put there")
	}
	plain := cipher
	if c.Key != "" {
		if plain, err = a.decrypt(cipher, c.Key); err != nil {
			return nil, nil, c, err
		}
	}
	p, err := readOffer(plain, c.Offer)
	return plain, p, c, err
}

// unseal decrypts a live patch and checks that it is what the offer says.
func (a *Agent) unseal(cipher []byte, key string, o trust.Offer) (*livepatch.Patch, error) {
	plain, err := a.decrypt(cipher, key)
	if err != nil {
		return nil, err
	}
	return readOffer(plain, o)
}

func (a *Agent) decrypt(cipher []byte, key string) ([]byte, error) {
	secret, err := a.secret()
	if err != nil {
		return nil, err
	}
	return a.opts.Crypt.Decrypt(cipher, key, secret)
}

// secret is this machine's identity.
func (a *Agent) secret() (string, error) {
	b, err := a.disk.ReadFile(identityName)
	if err != nil {
		return "", code.New("TS9404", identityName, "").With(err)
	}
	return strings.TrimSpace(string(b)), nil
}

// readOffer reads a live patch that has to be what an offer says.
func readOffer(plain []byte, o trust.Offer) (*livepatch.Patch, error) {
	if int64(len(plain)) != o.Size || digest(plain) != o.Digest {
		return nil, code.New("TS9407", o.ID, "its digest or size is not what the index says")
	}
	p, err := livepatch.Read(plain)
	if err != nil {
		return nil, err
	}
	if m := &p.Manifest; m.Name != o.Name || m.Version != o.Version {
		return nil, code.New("TS9407", o.ID, fmt.Sprintf("it is %s version %d, the index says %s version %d", m.Name, m.Version, o.Name, o.Version))
	}
	return p, nil
}

// fits checks that a live patch is for the running kernel.
func fits(p *livepatch.Patch, k api.Kernel) error {
	if t := p.Manifest.Target; t.BuildID != k.BuildID {
		return code.New("TS9407", p.Manifest.Name, fmt.Sprintf("it is for %s with build-id %s; this machine runs %s with %s", t.Release, t.BuildID, k.Release, k.BuildID))
	}
	return nil
}

// fitsOf checks that a live patch is for a package, or for the running kernel
// without one.
func fitsOf(p *livepatch.Patch, h *Host, about *PackageRef) error {
	switch t := p.Manifest.Target; {
	case about == nil && p.Manifest.Userland():
		return code.New("TS9407", p.Manifest.Name, "it is for "+t.Name+", and not for a kernel")
	case about == nil:
		return fits(p, h.Kernel)
	case !p.Manifest.Userland() || t.ID() != about.ID:
		return code.New("TS9407", p.Manifest.Name, "it is for "+t.Name+", and not for "+about.Target)
	}
	return nil
}

// keepIndex remembers the last signed index of the running kernel, for the
// time before the network is up.
func (a *Agent) keepIndex(x *trust.Index) error {
	b, err := x.Bytes()
	if err != nil {
		return err
	}
	if old, err := a.disk.ReadFile(indexName); err == nil && bytes.Equal(old, b) {
		return nil
	}
	return a.disk.WriteFile(indexName, b)
}

// cachedIndex is the last index, if it is for this kernel. Where there is an
// enrolment, what the signatures vouch for counts and the file only names the
// tier.
func (a *Agent) cachedIndex(buildID string) *trust.Index {
	b, err := a.disk.ReadFile(indexName)
	if err != nil {
		return nil
	}
	x, err := trust.ParseIndex(b)
	if err != nil || x.Target.BuildID != buildID {
		a.log.Warn("cached index", "err", err)
		return nil
	}
	if !a.link() {
		return x
	}
	var source Source
	a.see(func(m *moment) { source = m.source })
	signed, _, err := source.Cached(x.Tier, buildID, x.Policy)
	switch {
	case err != nil:
		a.log.Warn("cached metadata", "err", err)
	case signed != nil:
		return signed
	}
	// What it forbids is obeyed all the same; nothing new is loaded by it.
	return x
}

// prune drops cached live patches that nothing can need any more.
func (a *Agent) prune() {
	s, _ := a.journal.view()
	needed := map[string]bool{}
	for _, p := range s.Healthy {
		needed[p.ID] = true
	}
	if s.Intent != nil {
		needed[s.Intent.Patch.ID] = true
	}
	if s.Current != nil {
		needed[s.Current.Patch.ID] = true
	}
	for _, p := range s.Packages {
		if p.Intent != nil {
			needed[p.Intent.Patch.ID] = true
		}
		if p.Current != nil {
			needed[p.Current.Patch.ID] = true
		}
	}
	a.see(func(m *moment) {
		if m.local != nil {
			needed[m.local.ID] = true
		}
	})
	names, err := a.disk.List(patchDir)
	if err != nil {
		return
	}
	for _, n := range names {
		id := strings.TrimSuffix(strings.TrimSuffix(n, ".tsugi.age"), ".json")
		if !needed[id] {
			// What stays costs space and nothing else.
			_ = a.disk.Remove(patchDir + "/" + n)
		}
	}
}
