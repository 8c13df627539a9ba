// SPDX-License-Identifier: Apache-2.0

package modsig

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/pkgfile/debtest"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

var module = append([]byte("\x7fELF\x02\x01\x01"), bytes.Repeat([]byte("a module's bytes\n"), 1000)...)

// newKey makes a key with a certificate that it signs itself, as a kernel
// build does.
func newKey(t testing.TB, kind string) *Key {
	t.Helper()
	var signer crypto.Signer
	var err error
	switch kind {
	case "rsa":
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "p256":
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ed25519":
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	}
	qt.Assert(t, qt.IsNil(err))
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	qt.Assert(t, qt.IsNil(err))
	id := sha1.Sum(spki)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
	qt.Assert(t, qt.IsNil(err))
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Build time key of " + kind, Organization: []string{"継ぎ"}},
		NotBefore:    time.Unix(1700000000, 0),
		NotAfter:     time.Unix(4000000000, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		SubjectKeyId: id[:],
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	qt.Assert(t, qt.IsNil(err))
	cert, err := x509.ParseCertificate(der)
	qt.Assert(t, qt.IsNil(err))
	return &Key{signer, cert}
}

func (k *Key) pem(t testing.TB) (key, cert []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer)
	qt.Assert(t, qt.IsNil(err))
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Cert.Raw})
}

var hashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

func TestASignedModuleVerifiesAndAnyChangeIsSeen(t *testing.T) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		key := newKey(t, kind)
		other := newKey(t, kind)
		for name, h := range hashes {
			for _, keyID := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s keyid=%t", kind, name, keyID), func(t *testing.T) {
					opts := Options{Hash: h, KeyID: keyID}
					signed, err := key.Sign(module, opts)
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.IsNil(Verify(signed, key.Cert)))

					content, der, err := Split(signed)
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.DeepEquals(content, module))
					qt.Assert(t, qt.DeepEquals(Append(content, der), signed))
					sig, err := Parse(der)
					qt.Assert(t, qt.IsNil(err))
					again, err := sig.Bytes()
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.DeepEquals(again, der))
					qt.Assert(t, qt.Equals(sig.Hash, h))

					twice, err := key.Sign(signed, opts)
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.IsTrue(bytes.Equal(twice, signed)), qt.Commentf("signing again gives the same bytes"))

					changed := bytes.Clone(signed)
					changed[100] ^= 1
					qt.Assert(t, qt.Equals(code.Of(Verify(changed, key.Cert)), code.Code("TS5902")))
					qt.Assert(t, qt.Equals(code.Of(Verify(signed, other.Cert)), code.Code("TS5902")))
				})
			}
		}
	}
}

func TestNoBitOfTheSignaturePartCanChangeUnseen(t *testing.T) {
	key := newKey(t, "p256")
	signed, err := key.Sign(module, Options{})
	qt.Assert(t, qt.IsNil(err))
	for i := len(module); i < len(signed); i++ {
		for bit := range 8 {
			changed := bytes.Clone(signed)
			changed[i] ^= 1 << bit
			if Verify(changed, key.Cert) == nil {
				t.Fatalf("bit %d of byte %d behind the module changed and it still verifies", bit, i-len(module))
			}
		}
	}
}

func TestUnsignedModuleIsToldApartFromADamagedSignature(t *testing.T) {
	key := newKey(t, "p256")
	signed, err := key.Sign(module, Options{})
	qt.Assert(t, qt.IsNil(err))
	at := len(signed) - len(magic) - trailerLen
	edit := func(off int, b byte) []byte {
		out := bytes.Clone(signed)
		out[at+off] = b
		return out
	}
	for name, tc := range map[string]struct {
		in   []byte
		want code.Code
	}{
		"unsigned":                       {module, "TS5904"},
		"empty":                          {nil, "TS5904"},
		"only the end mark":              {[]byte(magic), "TS5901"},
		"a trailer and nothing else":     {signed[at:], "TS5901"},
		"another type of signature":      {edit(2, 1), "TS5901"},
		"a hash number that must be 0":   {edit(1, 4), "TS5901"},
		"padding that is not zero":       {edit(7, 1), "TS5901"},
		"a length beyond the file":       {edit(8, 0xff), "TS5901"},
		"a length that cuts the message": {edit(11, signed[at+11]-1), "TS5901"},
		"a length of zero":               {Append(module, nil), "TS5901"},
		"a message that is not DER":      {Append(module, []byte("not DER")), "TS5901"},
	} {
		t.Run(name, func(t *testing.T) {
			qt.Assert(t, qt.Equals(code.Of(Verify(tc.in, key.Cert)), tc.want))
		})
	}
}

func TestKeysThatKernelsDoNotTakeAreRefused(t *testing.T) {
	ed := newKey(t, "ed25519")
	_, err := ed.Sign(module, Options{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5903")))

	key, other := newKey(t, "p256"), newKey(t, "p256")
	_, err = Sign(module, key.Signer, other.Cert, Options{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5903")))
	_, err = key.Sign(module, Options{Hash: crypto.SHA1})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5903")))
	bare := *key.Cert
	bare.SubjectKeyId = nil
	_, err = Sign(module, key.Signer, &bare, Options{KeyID: true})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5903")))
}

func TestParseKeyFindsKeyAndCertificate(t *testing.T) {
	k, other := newKey(t, "p256"), newKey(t, "rsa")
	key, cert := k.pem(t)
	otherKey, otherCert := other.pem(t)
	ec, err := x509.MarshalECPrivateKey(k.Signer.(*ecdsa.PrivateKey))
	qt.Assert(t, qt.IsNil(err))
	params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 0}})
	sec1 := append(params, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})...)
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(other.Signer.(*rsa.PrivateKey))})
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 0}})

	for name, tc := range map[string]struct {
		files [][]byte
		want  *x509.Certificate // nil: refused
	}{
		"one file with both, like certs/signing_key.pem": {[][]byte{append(bytes.Clone(key), cert...)}, k.Cert},
		"the certificate first":                          {[][]byte{append(bytes.Clone(cert), key...)}, k.Cert},
		"two PEM files":                                  {[][]byte{key, cert}, k.Cert},
		"the certificate in DER":                         {[][]byte{key, k.Cert.Raw}, k.Cert},
		"a chain with the right one last":                {[][]byte{key, otherCert, cert}, k.Cert},
		"an EC key with its parameters before it":        {[][]byte{sec1, cert}, k.Cert},
		"an RSA key of the old form":                     {[][]byte{pkcs1, otherCert}, other.Cert},
		"text around the blocks":                         {[][]byte{append([]byte("subject=x\n"), key...), cert}, k.Cert},
		"a certificate of another key":                   {[][]byte{key, otherCert}, nil},
		"no key":                                         {[][]byte{cert}, nil},
		"no certificate":                                 {[][]byte{otherKey}, nil},
		"an encrypted key":                               {[][]byte{locked, cert}, nil},
		"a damaged key":                                  {[][]byte{pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), cert}, nil},
		"nothing":                                        {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseKey(tc.files...)
			if tc.want == nil {
				qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5903")))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(got.Cert.Equal(tc.want)))
		})
	}
}

// files writes content, key and certificate where a reference tool reads them.
func files(t *testing.T, k *Key) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, cert := k.pem(t)
	for name, b := range map[string][]byte{"module": module, "key.pem": key, "cert.pem": cert} {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), b, 0o600)))
	}
	return dir
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%v: %s", cmd, out))
}

func needOpenSSL(t *testing.T) {
	t.Helper()
	need.Program(t, "openssl")
}

func TestRSAMessageIsByteForByteThatOfOpenSSL(t *testing.T) {
	needOpenSSL(t)
	key := newKey(t, "rsa")
	for name, h := range hashes {
		for _, keyID := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s keyid=%t", name, keyID), func(t *testing.T) {
				dir := files(t, key)
				args := []string{
					"cms", "-sign", "-binary", "-nocerts", "-noattr", "-nosmimecap", "-md", name,
					"-in", "module", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "sig",
				}
				if keyID {
					args = append(args, "-keyid")
				}
				run(t, dir, "openssl", args...)
				want, err := os.ReadFile(filepath.Join(dir, "sig"))
				qt.Assert(t, qt.IsNil(err))
				signed, err := key.Sign(module, Options{Hash: h, KeyID: keyID})
				qt.Assert(t, qt.IsNil(err))
				_, got, err := Split(signed)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.DeepEquals(got, want))
			})
		}
	}
}

// ECDSA has no one right signature; each side verifies the other's.
func TestECDSAMessagesAndOpenSSLVerifyEachOther(t *testing.T) {
	needOpenSSL(t)
	for _, kind := range []string{"p256", "p384"} {
		key := newKey(t, kind)
		for name, h := range hashes {
			t.Run(kind+" "+name, func(t *testing.T) {
				dir := files(t, key)
				signed, err := key.Sign(module, Options{Hash: h})
				qt.Assert(t, qt.IsNil(err))
				_, der, err := Split(signed)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "ours"), der, 0o600)))
				run(t, dir, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "ours", "-content", "module",
					"-certfile", "cert.pem", "-nointern", "-noverify", "-out", "out")

				run(t, dir, "openssl", "cms", "-sign", "-binary", "-nocerts", "-noattr", "-nosmimecap", "-md", name,
					"-in", "module", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "theirs")
				theirs, err := os.ReadFile(filepath.Join(dir, "theirs"))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(Verify(Append(module, theirs), key.Cert)))
				sig, err := Parse(theirs)
				qt.Assert(t, qt.IsNil(err))
				again, err := sig.Bytes()
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.DeepEquals(again, theirs))
			})
		}
	}
}

func TestMessagesThatModulesDoNotCarryAreRefused(t *testing.T) {
	needOpenSSL(t)
	key := newKey(t, "rsa")
	for name, args := range map[string][]string{
		"with the certificate in it": {"-noattr"},
		"with signed attributes":     {"-nocerts"},
		"with the content in it":     {"-nocerts", "-noattr", "-nodetach"},
		"with SHA-1":                 {"-nocerts", "-noattr", "-md", "sha1"},
		"with RSA-PSS":               {"-nocerts", "-noattr", "-keyopt", "rsa_padding_mode:pss"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files(t, key)
			base := []string{"cms", "-sign", "-binary", "-in", "module", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER", "-out", "sig"}
			run(t, dir, "openssl", append(base, args...)...)
			der, err := os.ReadFile(filepath.Join(dir, "sig"))
			qt.Assert(t, qt.IsNil(err))
			_, err = Parse(der)
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5901")), qt.Commentf("%v", err))
		})
	}
}

func TestDebiansOwnModuleSignatureIsOfThisForm(t *testing.T) {
	deb := debtest.Find(t, "linux-image-6.1.0-55-amd64")
	ko := debtest.File(t, deb, "lib/modules/6.1.0-55-amd64/kernel/net/vmw_vsock/vsock_loopback.ko")
	content, der, err := Split(ko)
	qt.Assert(t, qt.IsNil(err))
	sig, err := Parse(der)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(sig.Hash, crypto.SHA256))
	qt.Assert(t, qt.Equals(sig.Issuer(), "CN=Build time autogenerated kernel key"))
	qt.Assert(t, qt.Equals(len(sig.Value), 512))
	again, err := sig.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(Append(content, again), ko))
}

// The kernel's own tool, out of Debian's package, is the final reference.
func TestSignedModuleIsByteForByteThatOfSignFile(t *testing.T) {
	deb := debtest.Find(t, "linux-kbuild-6.1")
	tool := debtest.File(t, deb, "usr/lib/linux-kbuild-6.1/scripts/sign-file")
	key := newKey(t, "rsa")
	for name, h := range hashes {
		for _, keyID := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s keyid=%t", name, keyID), func(t *testing.T) {
				dir := files(t, key)
				signFile := filepath.Join(dir, "sign-file")
				qt.Assert(t, qt.IsNil(os.WriteFile(signFile, tool, 0o700)))
				args := []string{name, "key.pem", "cert.pem", "module", "signed"}
				if keyID {
					args = append([]string{"-k"}, args...)
				}
				run(t, dir, signFile, args...)
				want, err := os.ReadFile(filepath.Join(dir, "signed"))
				qt.Assert(t, qt.IsNil(err))
				got, err := key.Sign(module, Options{Hash: h, KeyID: keyID})
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.DeepEquals(got, want))
			})
		}
	}
}
