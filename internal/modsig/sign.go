// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Options are the choices of Sign.
type Options struct {
	// Hash is SHA256, SHA384 or SHA512; 0 means SHA256. It should be the
	// kernel's own, CONFIG_MODULE_SIG_HASH.
	Hash crypto.Hash
	// KeyID names the certificate by its subject key identifier instead of
	// issuer and serial number, as sign-file -k does.
	KeyID bool
}

// Sign returns the module with a signature behind it; one that it carries is
// replaced. The same inputs give the same bytes for RSA and for ECDSA keys
// held in memory (RFC 6979).
func Sign(module []byte, key crypto.Signer, cert *x509.Certificate, opts Options) ([]byte, error) {
	content, _, err := Split(module)
	if err != nil {
		return nil, err
	}
	if opts.Hash == 0 {
		opts.Hash = crypto.SHA256
	}
	s := &Signature{Hash: opts.Hash, RawIssuer: cert.RawIssuer, Serial: cert.SerialNumber}
	if opts.KeyID {
		if len(cert.SubjectKeyId) == 0 {
			return nil, code.New("TS5903", "certificate", "it has no subject key identifier to name it by")
		}
		s.RawIssuer, s.Serial, s.KeyID = nil, nil, cert.SubjectKeyId
	}
	if err := matches(key, cert); err != nil {
		return nil, err
	}
	switch key.Public().(type) {
	case *rsa.PublicKey:
	case *ecdsa.PublicKey:
		s.ECDSA = true
	default:
		return nil, code.New("TS5903", "key", fmt.Sprintf("its kind, %T, is none that kernels verify modules with", key.Public()))
	}
	sum, err := hash(opts.Hash, content)
	if err != nil {
		return nil, err
	}
	var random io.Reader = rand.Reader
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		random = nil // PKCS #1 v1.5 needs none; ECDSA is then deterministic
	}
	if s.Value, err = key.Sign(random, sum, opts.Hash); err != nil {
		return nil, code.New("TS5903", "key", "").With(err)
	}
	der, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	if len(der) > math.MaxUint32 {
		return nil, errors.New("module signature: longer than its trailer can say")
	}
	return Append(content, der), nil
}

// Verify checks that the module carries a signature that the certificate's key
// made over these bytes. It does not judge the certificate itself: like the
// kernel it takes what is in its keyring as trusted.
func Verify(module []byte, cert *x509.Certificate) error {
	content, der, err := Split(module)
	if err != nil {
		return err
	}
	if der == nil {
		return code.New("TS5904", "module", "")
	}
	s, err := Parse(der)
	if err != nil {
		return err
	}
	return s.Verify(content, cert)
}

// Verify checks the signature over a module's content, as Split cuts it.
func (s *Signature) Verify(content []byte, cert *x509.Certificate) error {
	bad := func(why string) error { return code.New("TS5902", "module", why) }
	if !s.names(cert.RawIssuer, cert.SerialNumber, cert.SubjectKeyId) {
		return bad(fmt.Sprintf("it was made with another certificate than %q, serial number %x", cert.Subject, cert.SerialNumber))
	}
	sum, err := hash(s.Hash, content)
	if err != nil {
		return err
	}
	switch pub := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if s.ECDSA {
			return bad("it is an ECDSA signature and the certificate's key is RSA")
		}
		if err := rsa.VerifyPKCS1v15(pub, s.Hash, sum, s.Value); err != nil {
			return bad("the RSA signature is not one of these bytes")
		}
	case *ecdsa.PublicKey:
		if !s.ECDSA {
			return bad("it is an RSA signature and the certificate's key is ECDSA")
		}
		if !ecdsa.VerifyASN1(pub, sum, s.Value) {
			return bad("the ECDSA signature is not one of these bytes")
		}
	default:
		return bad(fmt.Sprintf("the certificate's key is a %T", pub))
	}
	return nil
}

func hash(h crypto.Hash, b []byte) ([]byte, error) {
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
		sum := h.New()
		sum.Write(b)
		return sum.Sum(nil), nil
	}
	return nil, code.New("TS5903", "hash", fmt.Sprintf("%v is none of SHA-256, SHA-384 and SHA-512", h))
}
