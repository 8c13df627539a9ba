// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/modsig"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// PublishRequest brings a live patch.
type PublishRequest struct {
	Artifact []byte // the .tsugi file
	Proof    []byte // proof.json; nil: it was not proved
	Report   []byte // of the build, as JSON; nil: none
	// Consoles are what the machines of the proof wrote. One that the proof has
	// no digest of is left out.
	Consoles [][]byte
	Job      string // id of the job that built it, if one did
	Tier     string // "": the first
	// Policies are those whose machines it is for. None: those that choose
	// Selection, and of a live patch that was made by hand all that exclude
	// nothing of it.
	Policies  []string
	Selection string // digest of the choice that it was built for; "": made by hand
	Actor     string
	Checks    []Check // of the tier that it comes into
}

// Publish takes a live patch in and gives it to a tier. Doing it again with
// the same file is harmless.
func (s *Service) Publish(ctx context.Context, q PublishRequest) (store.LivePatch, error) {
	p, err := livepatch.Read(q.Artifact)
	if err != nil {
		return store.LivePatch{}, err
	}
	m := &p.Manifest
	row := store.LivePatch{
		ID: trust.PatchID(m.Target.Name, m.Version), Name: m.Name, Version: m.Version, Target: m.Target.Name,
		Release: m.Target.Release, BuildID: m.Target.ID(), Arch: m.Target.Arch, Digest: digest(q.Artifact),
		Size: int64(len(q.Artifact)), CVEs: m.CVEs(), CreatedBy: q.Actor, Selection: q.Selection,
	}
	if !trust.ValidPatchID(row.ID) {
		return row, code.New("TS7719", m.Target.Name, "")
	}
	for _, f := range m.Fixes {
		row.Fixes = append(row.Fixes, cmp.Or(f.Title, f.ID))
	}
	if old, err := s.store.LivePatch(ctx, row.ID); err == nil {
		if old.Digest != row.Digest {
			return old, code.New("TS7702", row.ID, "the one that is there has the digest "+old.Digest[:12])
		}
		return s.promote(ctx, row.ID, q.Tier, q.Actor, true, q.Checks...)
	} else if !errors.Is(err, store.ErrNotFound) {
		return row, err
	}
	if row.Proven, err = checkProof(q.Proof, row.Digest, m); err != nil {
		return row, err
	}
	if row.Signed, err = checkPayload(p); err != nil {
		return row, err
	}
	if row.Manifest, err = manifestOf(m); err != nil {
		return row, err
	}
	cipher, err := s.seal(&row, q.Artifact)
	if err != nil {
		return row, err
	}
	statement, err := stated(&row, m, q)
	if err != nil {
		return row, err
	}
	if err := s.keep(ctx, &row, q, cipher, statement); err != nil {
		return row, err
	}
	if err := s.change(ctx, func(j *job) error { return j.admit(ctx, row, m, q) }); err != nil {
		return row, err
	}
	s.log.Info("live patch published", "patch", row.ID, "target", row.Target)
	return s.store.LivePatch(ctx, row.ID)
}

// seal encrypts the artifact under a key of its own, which the row has for the
// server alone.
func (s *Service) seal(row *store.LivePatch, artifact []byte) (cipher []byte, err error) {
	cipher, key, err := trust.Seal(artifact)
	if err != nil {
		return nil, err
	}
	wrapped, err := trust.Wrap(key, s.id.Recipient())
	if err != nil {
		return nil, err
	}
	row.CipherDigest, row.CipherSize, row.SealedKey = digest(cipher), int64(len(cipher)), []byte(wrapped)
	return cipher, nil
}

// stated is the statement of where the live patch is from, which tiers sign.
func stated(row *store.LivePatch, m *livepatch.Manifest, q PublishRequest) ([]byte, error) {
	provenance, err := makeProvenance(m, row.ID, q)
	if err != nil {
		return nil, err
	}
	statement, err := trust.ProvenanceStatement(provenance, row.ID, row.Digest)
	if err != nil {
		return nil, err
	}
	row.ProvenanceDigest = digest(statement)
	return statement, nil
}

// keep puts all files of a live patch where they stay. The statement and the
// cipher text are kept once beside the tiers' copies: promotion starts from them.
func (s *Service) keep(ctx context.Context, row *store.LivePatch, q PublishRequest, cipher, statement []byte) error {
	type file struct {
		name string
		b    []byte
	}
	files := []file{{ArtifactName(*row), q.Artifact}, {cipherName(*row), cipher}, {statementName(*row), statement}}
	if q.Proof != nil {
		row.ProofDigest = digest(q.Proof)
		files = append(files, file{ProofName(*row), q.Proof})
	}
	for _, b := range q.Consoles {
		if name, ok := ConsoleName(digest(b)); ok && bytes.Contains(q.Proof, []byte(digest(b))) {
			files = append(files, file{name, b})
		}
	}
	if q.Report != nil {
		files = append(files, file{artifactDir + digest(q.Report) + ".report.json", q.Report})
	}
	for _, f := range files {
		if err := s.put(ctx, f.name, f.b); err != nil {
			return err
		}
	}
	return nil
}

// admit enters a live patch whose files are kept, and gives it to a tier.
func (j *job) admit(ctx context.Context, row store.LivePatch, m *livepatch.Manifest, q PublishRequest) error {
	tier, err := j.tier(ctx, q.Tier, nil)
	if err != nil {
		return err
	}
	if err := j.check(ctx, tier, q.Checks); err != nil {
		return err
	}
	policies, err := j.policiesFor(ctx, row, m, q.Policies)
	if err != nil {
		return err
	}
	if err := j.newest(ctx, row, policies); err != nil {
		return err
	}
	if err := j.tx.AddLivePatch(ctx, row); errors.Is(err, store.ErrConflict) {
		return code.New("TS7702", row.ID, "")
	} else if err != nil {
		return err
	}
	for _, p := range policies {
		if _, err := j.tx.AddToLine(ctx, row.ID, p); err != nil {
			return err
		}
	}
	if err := j.give(ctx, row, tier); err != nil {
		return err
	}
	return j.audit(ctx, q.Actor, "livepatch.publish", row.ID, published(tier, policies))
}

// checkPayload refuses what no kernel or process would take, and tells whether
// a module is signed.
func checkPayload(p *livepatch.Patch) (signed bool, err error) {
	if p.Manifest.Userland() {
		return false, checkSplices(p)
	}
	_, sig, err := modsig.Split(p.Module())
	return len(sig) > 0, err
}
