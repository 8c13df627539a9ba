// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digests that signatures name
	_ "crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/tsugi-project/tsugi/internal/code"
)

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidRSA        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

// digest is a hash with its object identifiers: its own, and that of ECDSA
// with it.
type digest struct {
	hash       crypto.Hash
	oid, ecdsa asn1.ObjectIdentifier
}

// digests returns the hashes that kernels verify modules with and that are
// still fit for it.
func digests() []digest {
	nist, ansi := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3}
	with := func(o asn1.ObjectIdentifier, n int) asn1.ObjectIdentifier {
		return append(o[:len(o):len(o)], n)
	}
	return []digest{
		{crypto.SHA256, with(nist, 1), with(ansi, 2)},
		{crypto.SHA384, with(nist, 2), with(ansi, 3)},
		{crypto.SHA512, with(nist, 3), with(ansi, 4)},
	}
}

// The structures of RFC 5652 in the one form that modules have.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue // [0] EXPLICIT signedData
}

type signedData struct {
	Version          int
	DigestAlgorithms []algorithm `asn1:"set"`
	Content          encapContent
	Signers          []signerInfo  `asn1:"set"`
	Behind           asn1.RawValue `asn1:"optional"` // nothing
}

type encapContent struct {
	Type   asn1.ObjectIdentifier
	Behind asn1.RawValue `asn1:"optional"` // nothing: the content is the module
}

type signerInfo struct {
	Version            int
	Signer             asn1.RawValue // issuerAndSerial, or [0] IMPLICIT OCTET STRING
	DigestAlgorithm    algorithm
	SignatureAlgorithm algorithm
	Signature          []byte
	Behind             asn1.RawValue `asn1:"optional"` // nothing: no attributes
}

type algorithm struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial *big.Int
}

// Signature is a parsed CMS message. It names its signer's certificate either
// by issuer and serial number or by subject key identifier.
type Signature struct {
	Hash      crypto.Hash
	ECDSA     bool     // else RSA PKCS #1 v1.5
	RawIssuer []byte   // the issuer's name in DER; nil with KeyID
	Serial    *big.Int // nil with KeyID
	KeyID     []byte   // nil with RawIssuer
	Value     []byte   // the RSA signature, or ECDSA's r and s in DER
}

// Issuer returns the issuer's name for people, "" when the signature names its
// signer by key identifier.
func (s *Signature) Issuer() string {
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(s.RawIssuer, &rdn); err != nil || len(rest) > 0 {
		return ""
	}
	return rdn.String()
}

// Parse reads a CMS message as Split returns it.
func Parse(der []byte) (*Signature, error) {
	s, err := parse(der)
	if err != nil {
		return nil, code.New("TS5901", "CMS message", "").With(err)
	}
	return s, nil
}

func parse(der []byte) (*Signature, error) {
	var outer contentInfo
	if err := unmarshal(der, &outer, ""); err != nil {
		return nil, err
	}
	if !outer.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("content type %v is not signedData", outer.Type)
	}
	if outer.Content.Class != asn1.ClassContextSpecific || outer.Content.Tag != 0 || !outer.Content.IsCompound {
		return nil, fmt.Errorf("signedData is not in its [0] wrapper")
	}
	var sd signedData
	if err := unmarshal(outer.Content.Bytes, &sd, ""); err != nil {
		return nil, fmt.Errorf("signedData without certificates and attributes: %w", err)
	}
	if len(sd.Content.Behind.FullBytes) > 0 {
		return nil, fmt.Errorf("the message holds its content, which should be the module before it")
	}
	if !sd.Content.Type.Equal(oidData) {
		return nil, fmt.Errorf("signed content type %v is not data", sd.Content.Type)
	}
	if len(sd.Signers) != 1 || len(sd.DigestAlgorithms) != 1 {
		return nil, fmt.Errorf("%d signers and %d digest algorithms where there should be one each", len(sd.Signers), len(sd.DigestAlgorithms))
	}
	si := sd.Signers[0]
	if len(sd.Behind.FullBytes) > 0 || len(si.Behind.FullBytes) > 0 {
		return nil, fmt.Errorf("signedData has attributes or fields that modules do not carry")
	}
	if !sd.DigestAlgorithms[0].Algorithm.Equal(si.DigestAlgorithm.Algorithm) {
		return nil, fmt.Errorf("the signer's digest algorithm %v is not the message's, %v", si.DigestAlgorithm.Algorithm, sd.DigestAlgorithms[0].Algorithm)
	}
	s := &Signature{Value: si.Signature}
	if err := s.setAlgorithms(si); err != nil {
		return nil, err
	}
	return s, s.setSigner(si, sd.Version)
}

func (s *Signature) setAlgorithms(si signerInfo) error {
	for _, d := range digests() {
		if !d.oid.Equal(si.DigestAlgorithm.Algorithm) {
			continue
		}
		s.Hash = d.hash
		switch {
		case si.SignatureAlgorithm.Algorithm.Equal(oidRSA):
		case si.SignatureAlgorithm.Algorithm.Equal(d.ecdsa):
			s.ECDSA = true
		default:
			return fmt.Errorf("signature algorithm %v is neither RSA nor ECDSA with %v", si.SignatureAlgorithm.Algorithm, d.hash)
		}
		return nil
	}
	return fmt.Errorf("digest algorithm %v is none of SHA-256, SHA-384 and SHA-512", si.DigestAlgorithm.Algorithm)
}

// setSigner holds the version rules that the kernel's parser holds: version 1
// names the signer by issuer and serial number, 3 by key identifier.
func (s *Signature) setSigner(si signerInfo, version int) error {
	id := si.Signer
	switch {
	case id.Class == asn1.ClassUniversal && id.Tag == asn1.TagSequence && si.Version == 1 && version == 1:
		var is issuerAndSerial
		if err := unmarshal(id.FullBytes, &is, ""); err != nil {
			return fmt.Errorf("issuer and serial number: %w", err)
		}
		s.RawIssuer, s.Serial = is.Issuer.FullBytes, is.Serial
		return nil
	case id.Class == asn1.ClassContextSpecific && id.Tag == 0 && !id.IsCompound && si.Version == 3 && version == 3:
		if len(id.Bytes) == 0 {
			return fmt.Errorf("empty key identifier")
		}
		s.KeyID = id.Bytes
		return nil
	}
	return fmt.Errorf("versions %d and %d do not fit how the signer is named (tag %d)", version, si.Version, id.Tag)
}

func unmarshal(der []byte, v any, params string) error {
	rest, err := asn1.UnmarshalWithParams(der, v, params)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes behind the end", len(rest))
	}
	return err
}

// Bytes returns the message in DER.
func (s *Signature) Bytes() ([]byte, error) {
	version, signer, err := s.signer()
	if err != nil {
		return nil, err
	}
	i := 0
	all := digests()
	for ; i < len(all) && all[i].hash != s.Hash; i++ {
	}
	if i == len(all) {
		return nil, fmt.Errorf("hash %v is none of SHA-256, SHA-384 and SHA-512", s.Hash)
	}
	digestAlg := algorithm{Algorithm: all[i].oid}
	sigAlg := algorithm{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	if s.ECDSA {
		sigAlg = algorithm{Algorithm: all[i].ecdsa}
	}
	sd, err := asn1.Marshal(signedData{
		Version:          version,
		DigestAlgorithms: []algorithm{digestAlg},
		Content:          encapContent{Type: oidData},
		Signers: []signerInfo{{
			Version: version, Signer: signer,
			DigestAlgorithm: digestAlg, SignatureAlgorithm: sigAlg, Signature: s.Value,
		}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{oidSignedData, asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: sd,
	}})
}

func (s *Signature) signer() (version int, id asn1.RawValue, err error) {
	if s.KeyID != nil {
		return 3, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, Bytes: s.KeyID}, nil
	}
	der, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: s.RawIssuer}, s.Serial})
	return 1, asn1.RawValue{FullBytes: der}, err
}

// names reports whether the signature names the certificate with this issuer,
// serial number and key identifier.
func (s *Signature) names(rawIssuer []byte, serial *big.Int, keyID []byte) bool {
	if s.KeyID != nil {
		return bytes.Equal(s.KeyID, keyID)
	}
	return bytes.Equal(s.RawIssuer, rawIssuer) && s.Serial.Cmp(serial) == 0
}
