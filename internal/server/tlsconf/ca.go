// SPDX-License-Identifier: Apache-2.0

// Package tlsconf makes the TLS side of a server: from a certificate authority
// of the service's own, whose server certificates renew themselves; from
// files, read again when they change; or by ACME.
//
// Machines that enrolled with an authority of the service's own know it by its
// digest and trust nothing else, so the server's certificate and key may
// change at any time.
package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Files of an authority's directory.
const (
	caCert, caKey = "ca.pem", "ca-key.pem"
)

// Lifetimes. A server certificate is renewed when a third of its life is left.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	renewAt  = leafLife / 3
	// skew is how far certificates are dated back, for machines whose clock is
	// slow.
	skew = 24 * time.Hour
)

// CA is a certificate authority that signs the certificates of one service.
type CA struct {
	cert *x509.Certificate
	pem  []byte
	key  crypto.Signer
}

// CreateCA makes an authority in a directory, which must not have one.
func CreateCA(dir, name string, now time.Time) (*CA, error) {
	if _, err := os.Stat(filepath.Join(dir, caKey)); err == nil {
		return nil, code.New("TS7805", filepath.Join(dir, caKey), "")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Tsugi CA " + name, Organization: []string{"Tsugi"}},
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := renameio.WriteFile(filepath.Join(dir, caKey), keyPEM, 0o600); err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := renameio.WriteFile(filepath.Join(dir, caCert), certPEM, 0o644); err != nil {
		return nil, err
	}
	return OpenCA(dir)
}

// OpenCA reads the authority of a directory.
func OpenCA(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, caCert))
	if err != nil {
		return nil, code.New("TS7806", filepath.Join(dir, caCert), "").With(err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, caKey))
	if err != nil {
		return nil, code.New("TS7806", filepath.Join(dir, caKey), "").With(err)
	}
	ca, err := parseCA(certPEM, keyPEM)
	if err != nil {
		return nil, code.New("TS7806", dir, "").With(err)
	}
	return ca, nil
}

func parseCA(certPEM, keyPEM []byte) (*CA, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New(caCert + " holds no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if !cert.IsCA {
		return nil, errors.New(caCert + " is not the certificate of an authority")
	}
	keyBlock, _ := pem.Decode(keyPEM)
	if keyBlock == nil || keyBlock.Type != "PRIVATE KEY" {
		return nil, errors.New(caKey + " holds no private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New(caKey + " does not belong to " + caCert)
	}
	return &CA{cert: cert, pem: pem.EncodeToMemory(block), key: key}, nil
}

// PEM is the authority's certificate.
func (ca *CA) PEM() []byte { return ca.pem }

// Certificate is the authority's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Digest is the SHA-256 of the certificate (DER), hex: what an enrolment names.
func (ca *CA) Digest() string {
	sum := sha256.Sum256(ca.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Issue signs a new server certificate with a new key for names and
// addresses. It returns the chain and the key as PEM.
func (ca *CA) Issue(names []string, now time.Time) (chain, key []byte, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("a server certificate needs a name")
	}
	if now.After(ca.cert.NotAfter) {
		return nil, nil, fmt.Errorf("the authority ended on %s", ca.cert.NotAfter.Format(time.DateOnly))
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	end := now.Add(leafLife)
	if end.After(ca.cert.NotAfter) {
		end = ca.cert.NotAfter
	}
	start := now.Add(-skew)
	if start.Before(ca.cert.NotBefore) {
		start = ca.cert.NotBefore
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: names[0], Organization: []string{"Tsugi"}},
		NotBefore: start, NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if addr, err := netip.ParseAddr(n); err == nil {
			template.IPAddresses = append(template.IPAddresses, addr.Unmap().AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	if template.SerialNumber, err = serial(); err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, priv.Public(), ca.key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, nil, err
	}
	chain = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ca.pem...)
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// serial is 126 random bits (RFC 5280 allows 20 octets, positive).
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}
