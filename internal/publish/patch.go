// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// ArtifactName is where the .tsugi file of a live patch is kept.
func ArtifactName(p store.LivePatch) string { return artifactDir + p.Digest + ".tsugi" }

// ProofName is where the proof that came with a live patch is kept.
func ProofName(p store.LivePatch) string { return artifactDir + p.ProofDigest + ".proof.json" }

// StatementName is where the statement of its provenance is kept.
func StatementName(p store.LivePatch) string { return statementName(p) }

// ConsoleName is where what a machine of a proof wrote on its console is kept,
// if it was handed in, by the digest that the proof has of it.
func ConsoleName(digest string) (string, bool) {
	b, err := hex.DecodeString(digest)
	return artifactDir + digest + ".console.txt", err == nil && len(b) == sha256.Size
}

func cipherName(p store.LivePatch) string { return artifactDir + p.CipherDigest + ".tsugi.age" }
func statementName(p store.LivePatch) string {
	return artifactDir + p.ProvenanceDigest + ".statement.json"
}

// tier finds the tier that is meant: "" is the one after the last that a live
// patch is in, and the first for a new one.
func (j *job) tier(ctx context.Context, name string, in []string) (string, error) {
	tiers, err := j.tx.Tiers(ctx)
	if err != nil {
		return "", err
	}
	next := 0
	for i, t := range tiers {
		if t.Name == name {
			return name, nil
		}
		if slices.Contains(in, t.Name) {
			next = i + 1
		}
	}
	if name != "" {
		return "", code.New("TS7703", name, "")
	}
	if next >= len(tiers) {
		return "", code.New("TS7707", in[len(in)-1], "")
	}
	return tiers[next].Name, nil
}

// Check is asked in the transaction of a change, once it is known which tier it
// is of, and can refuse it.
type Check func(ctx context.Context, tx *store.Tx, tier string) error

func (j *job) check(ctx context.Context, tier string, all []Check) error {
	for _, c := range all {
		if err := c(ctx, j.tx, tier); err != nil {
			return err
		}
	}
	return nil
}

// Promote gives a live patch to a tier; "" is the next one.
func (s *Service) Promote(ctx context.Context, id, tier, actor string, checks ...Check) (store.LivePatch, error) {
	return s.promote(ctx, id, tier, actor, false, checks...)
}

// promote with again set does not go on to the next tier: "" is then where it
// is already.
func (s *Service) promote(ctx context.Context, id, tier, actor string, again bool, checks ...Check) (store.LivePatch, error) {
	err := s.change(ctx, func(j *job) error {
		p, err := j.livePatch(ctx, id)
		if err != nil {
			return err
		}
		if again && tier == "" && len(p.Tiers) > 0 {
			return nil
		}
		to, err := j.tier(ctx, tier, p.Tiers)
		if err != nil {
			return err
		}
		if slices.Contains(p.Tiers, to) {
			return nil
		}
		if p.Blocked != 0 {
			return code.New("TS7705", id, p.Reason)
		}
		if err := j.check(ctx, to, checks); err != nil {
			return err
		}
		if err := j.give(ctx, p, to); err != nil {
			return err
		}
		return j.audit(ctx, actor, "livepatch.promote", id, to)
	})
	if err != nil {
		return store.LivePatch{}, err
	}
	return s.store.LivePatch(ctx, id)
}

func (j *job) livePatch(ctx context.Context, id string) (store.LivePatch, error) {
	p, err := j.tx.LivePatch(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return p, code.New("TS7701", id, "")
	}
	return p, err
}

// give publishes a live patch in a tier: the encrypted file, the provenance
// with the tier's signature, the index.
func (j *job) give(ctx context.Context, p store.LivePatch, tier string) error {
	if _, err := j.tx.AddPublication(ctx, p.ID, tier); err != nil {
		return err
	}
	if err := j.offer(ctx, p, tier); err != nil {
		return err
	}
	return j.indexesIn(ctx, tier, p.BuildID)
}

// offer puts the files of a live patch into a tier.
func (j *job) offer(ctx context.Context, p store.LivePatch, tier string) error {
	cipher, err := j.s.get(ctx, cipherName(p), p.CipherSize)
	if err != nil {
		return err
	}
	if digest(cipher) != p.CipherDigest {
		return code.New("TS7713", cipherName(p), "")
	}
	if err := j.target(ctx, tier, trust.PatchPath(tier, p.ID), cipher); err != nil {
		return err
	}
	return j.attest(ctx, p, tier)
}

// attest signs the provenance of a live patch with the tier's keys.
func (j *job) attest(ctx context.Context, p store.LivePatch, tier string) error {
	statement, err := j.s.get(ctx, statementName(p), maxReport)
	if err != nil {
		return err
	}
	if digest(statement) != p.ProvenanceDigest {
		return code.New("TS7713", statementName(p), "")
	}
	ring, err := j.s.ring(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	var keys []*trust.Key
	for _, k := range ring {
		if slices.Contains(j.repo.TierKeys(tier), k.ID()) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return code.New("TS7130", trust.TierRole(tier), "")
	}
	envelope, err := trust.SignStatement(statement, keys...)
	if err != nil {
		return err
	}
	return j.target(ctx, tier, trust.ProvenancePath(tier, p.ID), envelope)
}

// target puts a file where machines fetch it and into the tier's role.
func (j *job) target(ctx context.Context, tier, path string, b []byte) error {
	t := repo.TargetOf(b)
	name := targetsDir + t.FilePath(path)
	if info, err := j.s.blobs.Stat(ctx, name); err != nil || info.Size != t.Length || j.s.now().Sub(info.Modified) > freshen {
		if err != nil && !errors.Is(err, blob.ErrNotFound) {
			return fmt.Errorf("blob %s: %w", name, err)
		}
		if err := j.s.put(ctx, name, b); err != nil {
			return err
		}
	}
	return j.repo.SetTarget(tier, path, t)
}

func manifestOf(m *livepatch.Manifest) ([]byte, error) {
	var b bytes.Buffer
	err := encodeJSON(&b, m)
	return b.Bytes(), err
}

func encode(b []byte) string          { return base64.StdEncoding.EncodeToString(b) }
func decode(s string) ([]byte, error) { return base64.StdEncoding.DecodeString(s) }
