// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/tsugi-project/tsugi/internal/code"
)

// The types of an in-toto attestation: who reads one elsewhere finds what the
// field defines.
const (
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	// BuildType says how to read the parameters below.
	BuildType = "https://tsugi-project.github.io/build/v1"

	maxProvenance = 1 << 20
)

// Provenance says where a live patch comes from: from which source and fixes
// it was made, by what, and what proved it. It is the predicate of an in-toto
// Statement about the .tsugi file, in SLSA's form, and is signed as a DSSE
// envelope by each tier that takes the live patch.
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition is what went in.
type BuildDefinition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   Parameters `json:"externalParameters"`
	ResolvedDependencies []Resource `json:"resolvedDependencies"` // fixes, configuration, compiler
}

// Parameters are what a person asked for.
type Parameters struct {
	Name    string   `json:"name"`    // the kernel's name of the live patch
	Version int      `json:"version"` // of its target
	Target  IndexRef `json:"target"`
	Fixes   []string `json:"fixes"` // ids, in the order they were applied
}

// Resource is something with a digest, or a name at least.
type Resource struct {
	Name        string            `json:"name"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// RunDetails is who made it, and what came of it beside the live patch.
type RunDetails struct {
	Builder    Builder    `json:"builder"`
	Metadata   Metadata   `json:"metadata"`
	Byproducts []Resource `json:"byproducts,omitempty"` // module, proof
}

// Builder is the program that built.
type Builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// Metadata is about the run.
type Metadata struct {
	InvocationID string     `json:"invocationId,omitempty"` // a job
	FinishedOn   *time.Time `json:"finishedOn,omitempty"`
}

// statement is an in-toto Statement of version 1.
type statement struct {
	Type          string      `json:"_type"`
	Subject       []Resource  `json:"subject"`
	PredicateType string      `json:"predicateType"`
	Predicate     *Provenance `json:"predicate"`
}

// ProvenanceStatement is the in-toto Statement that p is about the .tsugi file
// of this id and SHA-256 (hex).
func ProvenanceStatement(p *Provenance, id, artifactDigest string) ([]byte, error) {
	b, err := json.Marshal(statement{
		Type: statementType, PredicateType: predicateType, Predicate: p,
		Subject: []Resource{{Name: id + ".tsugi", Digest: map[string]string{"sha256": artifactDigest}}},
	})
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return b, nil
}

// SignStatement puts a statement into an envelope that the keys sign.
func SignStatement(statement []byte, keys ...*Key) ([]byte, error) {
	var signers []dsse.Signer
	for _, k := range keys {
		signers = append(signers, dsseKey{k.Public(), k})
	}
	s, err := dsse.NewEnvelopeSigner(signers...)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	e, err := s.SignPayload(context.Background(), payloadType, statement)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return json.Marshal(e)
}

// VerifyProvenance reads an envelope that one of the keys signed and that is
// about the .tsugi file with this SHA-256 (hex).
func VerifyProvenance(envelope []byte, keys []PublicKey, artifactDigest string) (*Provenance, error) {
	e, body, err := readEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, code.New("TS7107", "", "no key is trusted for it")
	}
	var verifiers []dsse.Verifier
	seen := map[string]bool{}
	for _, k := range keys {
		if !seen[k.ID()] {
			verifiers = append(verifiers, dsseKey{k, nil})
		}
		seen[k.ID()] = true
	}
	v, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return nil, code.New("TS7107", "", "").With(err)
	}
	if _, err := v.Verify(context.Background(), e); err != nil {
		return nil, code.New("TS7107", "", "").With(err)
	}
	var s statement
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&s); err != nil {
		return nil, code.New("TS7107", "", "its statement is not readable").With(err)
	}
	if _, end := d.Token(); !errors.Is(end, io.EOF) {
		return nil, code.New("TS7107", "", "something follows its statement")
	}
	if s.Type != statementType || s.PredicateType != predicateType || s.Predicate == nil || s.Predicate.BuildDefinition.BuildType != BuildType {
		return nil, code.New("TS7107", "", "it is about something else than the build of a live patch")
	}
	for _, sub := range s.Subject {
		if sub.Digest["sha256"] == artifactDigest {
			return s.Predicate, nil
		}
	}
	return nil, code.New("TS7108", "", "the live patch has the digest "+artifactDigest)
}

func readEnvelope(b []byte) (*dsse.Envelope, []byte, error) {
	if len(b) > maxProvenance {
		return nil, nil, code.New("TS7107", "", fmt.Sprintf("%d bytes, more than %d", len(b), maxProvenance))
	}
	var e dsse.Envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, nil, code.New("TS7107", "", "not readable").With(err)
	}
	if e.PayloadType != payloadType || len(e.Signatures) == 0 || len(e.Signatures) > 64 {
		return nil, nil, code.New("TS7107", "", "not a signed in-toto statement")
	}
	body, err := e.DecodeB64Payload()
	if err != nil {
		return nil, nil, code.New("TS7107", "", "not readable").With(err)
	}
	return &e, body, nil
}

// dsseKey lets package dsse use our keys.
type dsseKey struct {
	public PublicKey
	key    *Key // nil: verifies only
}

func (k dsseKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	if k.key == nil {
		return nil, errors.New("no private key")
	}
	return k.key.Sign(data), nil
}

func (k dsseKey) Verify(_ context.Context, data, sig []byte) error {
	if !k.public.Verify(data, sig) {
		return errors.New("the signature is not this key's")
	}
	return nil
}

func (k dsseKey) KeyID() (string, error)   { return k.public.ID(), nil }
func (k dsseKey) Public() crypto.PublicKey { return k.public.Bytes() }
