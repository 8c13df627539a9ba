// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tsugi-project/tsugi/internal/code"
)

var artifactDigest = strings.Repeat("ab", 32)

func provenance() *Provenance {
	return &Provenance{
		BuildDefinition: BuildDefinition{
			BuildType:            BuildType,
			ExternalParameters:   Parameters{Name: "tsugi_ext4", Version: 3, Target: IndexRef{Name: "debian:6.1", Release: "6.1", Arch: "x86_64", BuildID: "00"}, Fixes: []string{"a"}},
			ResolvedDependencies: []Resource{{Name: "fix:a", Digest: map[string]string{"sha256": artifactDigest}}, {Name: "compiler", Annotations: map[string]string{"version": "gcc"}}},
		},
		RunDetails: RunDetails{Builder: Builder{ID: BuildType + "/builder"}, Byproducts: []Resource{{Name: "proof.json", Digest: map[string]string{"sha256": artifactDigest}}}},
	}
}

func envelope(t testing.TB, keys ...*Key) []byte {
	s, err := ProvenanceStatement(provenance(), "x-v3", artifactDigest)
	qt.Assert(t, qt.IsNil(err))
	e, err := SignStatement(s, keys...)
	qt.Assert(t, qt.IsNil(err))
	return e
}

func TestProvenanceIsTakenFromTrustedKeysAndForItsArtifactAlone(t *testing.T) {
	a, b, stranger := key(t), key(t), key(t)
	e := envelope(t, a, b)
	for _, k := range [][]PublicKey{{a.Public()}, {b.Public()}, {stranger.Public(), b.Public(), b.Public()}} {
		got, err := VerifyProvenance(e, k, artifactDigest)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, provenance()))
	}
	_, err := VerifyProvenance(e, []PublicKey{stranger.Public()}, artifactDigest)
	qt.Check(t, qt.Equals(code.Of(err), "TS7107"))
	_, err = VerifyProvenance(e, nil, artifactDigest)
	qt.Check(t, qt.Equals(code.Of(err), "TS7107"))
	_, err = VerifyProvenance(e, []PublicKey{a.Public()}, strings.Repeat("cd", 32))
	qt.Check(t, qt.Equals(code.Of(err), "TS7108"))
}

func TestASignedStatementOfAnotherKindIsRefused(t *testing.T) {
	k := key(t)
	for name, body := range map[string]string{
		"no JSON":           `x`,
		"another type":      `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`,
		"another predicate": `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","predicate":{}}`,
		"no predicate":      `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1"}`,
		"two values":        `{"_type":"https://in-toto.io/Statement/v1"}{}`,
	} {
		t.Run(name, func(t *testing.T) {
			e, err := SignStatement([]byte(body), k)
			qt.Assert(t, qt.IsNil(err))
			_, err = VerifyProvenance(e, []PublicKey{k.Public()}, artifactDigest)
			qt.Check(t, qt.Equals(code.Of(err), "TS7107"), qt.Commentf("%v", err))
		})
	}
}

// TestInTotosOwnLibraryReadsTheStatement compares with the field's own types.
func TestInTotosOwnLibraryReadsTheStatement(t *testing.T) {
	var e struct {
		PayloadType string `json:"payloadType"`
		Payload     string `json:"payload"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(envelope(t, key(t)), &e)))
	qt.Check(t, qt.Equals(e.PayloadType, "application/vnd.in-toto+json"))
	body, err := base64.StdEncoding.DecodeString(e.Payload)
	qt.Assert(t, qt.IsNil(err))
	var s intoto.Statement
	qt.Assert(t, qt.IsNil(protojson.Unmarshal(body, &s)))
	qt.Assert(t, qt.IsNil(s.Validate()))
	qt.Check(t, qt.Equals(s.GetSubject()[0].GetDigest()["sha256"], artifactDigest))
}

func FuzzVerifyProvenance(f *testing.F) {
	k := key(f)
	f.Add(envelope(f, k))
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[{"sig":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := VerifyProvenance(b, []PublicKey{k.Public()}, artifactDigest)
		if (err == nil) != (p != nil) || err != nil && code.Of(err) == "" {
			t.Fatalf("%v, %v", p, err)
		}
	})
}
