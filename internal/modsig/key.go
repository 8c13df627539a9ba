// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Key is a private key with the certificate that kernels know it by.
type Key struct {
	Signer crypto.Signer
	Cert   *x509.Certificate
}

// Sign signs a module; see the function Sign.
func (k *Key) Sign(module []byte, opts Options) ([]byte, error) {
	return Sign(module, k.Signer, k.Cert, opts)
}

// ParseKey finds a key and its certificate in the texts of one or two files:
// one PEM with both, as the kernel's certs/signing_key.pem, or a key in PEM
// and a certificate in PEM or DER (certs/signing_key.x509, MOK.der). Of several
// certificates it takes the one of the key.
func ParseKey(files ...[]byte) (*Key, error) {
	k := &Key{}
	var certs []*x509.Certificate
	for _, text := range files {
		if cert, err := x509.ParseCertificate(text); err == nil {
			certs = append(certs, cert)
			continue
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "CERTIFICATE" {
				cert, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					return nil, code.New("TS5903", "certificate", "").With(err)
				}
				certs = append(certs, cert)
				continue
			}
			signer, err := parsePrivate(block)
			if err != nil {
				return nil, err
			}
			if signer != nil && k.Signer == nil {
				k.Signer = signer
			}
		}
	}
	if k.Signer == nil {
		return nil, code.New("TS5903", "key", "there is no private key in PEM form")
	}
	if len(certs) == 0 {
		return nil, code.New("TS5903", "certificate", "there is no X.509 certificate")
	}
	err := error(nil)
	for _, cert := range certs {
		if err = matches(k.Signer, cert); err == nil {
			k.Cert = cert
			return k, nil
		}
	}
	return nil, err
}

// parsePrivate returns nil for a block that is not a private key, such as EC
// PARAMETERS.
func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, code.New("TS5903", "key", "it is encrypted").
			WithFix("decrypt it into a file that only you can read: openssl pkey -in KEY -out PLAIN")
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, code.New("TS5903", "key", "").With(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, code.New("TS5903", "key", fmt.Sprintf("a %T cannot sign", key))
	}
	return signer, nil
}

// matches tells whether cert is the certificate of key.
func matches(key crypto.Signer, cert *x509.Certificate) error {
	a, errA := x509.MarshalPKIXPublicKey(key.Public())
	b, errB := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		return code.New("TS5903", "certificate", fmt.Sprintf("that of %q is not the private key's", cert.Subject))
	}
	return nil
}
