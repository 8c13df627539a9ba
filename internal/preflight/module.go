// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"crypto/x509/pkix"
	"debug/elf"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/modsig"
)

// ModuleFile is what a .ko file says of itself.
type ModuleFile struct {
	Name      string
	Size      int64
	Vermagic  string
	Livepatch bool
	Depends   []string // modules that have to be loaded before
	Signer    *Signer  // nil when it is not signed
}

// Signer is the key that a module says it was signed with.
type Signer struct {
	Name  string // of the certificate's issuer, as the kernel shortens names
	KeyID string // subject key identifier in hex; "" when issuer and serial number name the key
}

// String is what people call the key.
func (s *Signer) String() string {
	if s.Name != "" {
		return s.Name
	}
	return "key " + s.KeyID
}

// Is tells whether this is the key of a keyring. A signature by issuer and
// serial number is compared by name: keys that sign modules are their own
// issuers, and /proc/keys does not show serial numbers of those that have a
// key identifier.
func (s *Signer) Is(k hostinfo.Key) bool {
	if s.KeyID != "" {
		return k.ID == s.KeyID
	}
	return s.Name != "" && k.Name == s.Name
}

// ReadModule reads a .ko file.
func ReadModule(ko []byte) (ModuleFile, error) {
	bad := func(why string, err error) (ModuleFile, error) {
		p := code.New("TS9223", "", why)
		if err != nil {
			p = p.With(err)
		}
		return ModuleFile{}, p
	}
	content, sig, err := modsig.Split(ko)
	if err != nil {
		return bad("its signature", err)
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return bad("", err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > uint64(len(content)) {
		return bad("it has no .modinfo", nil)
	}
	info, err := s.Data()
	if err != nil {
		return bad(".modinfo", err)
	}
	m := ModuleFile{Size: int64(len(ko))}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "name":
			m.Name = value
		case "vermagic":
			m.Vermagic = value
		case "livepatch":
			m.Livepatch = value == "Y"
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, d)
				}
			}
		}
	}
	if m.Name == "" || m.Vermagic == "" {
		return bad("its .modinfo has no name or no vermagic", nil)
	}
	if sig != nil {
		if m.Signer, err = signer(sig); err != nil {
			return bad("its signature", err)
		}
	}
	return m, nil
}

func signer(der []byte) (*Signer, error) {
	s, err := modsig.Parse(der)
	if err != nil {
		return nil, err
	}
	if s.KeyID != nil {
		return &Signer{KeyID: hex.EncodeToString(s.KeyID)}, nil
	}
	var rdn pkix.RDNSequence
	rest, err := asn1.Unmarshal(s.RawIssuer, &rdn)
	if err != nil {
		return nil, fmt.Errorf("the issuer's name: %w", err)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("the issuer's name: %d bytes behind its end", len(rest))
	}
	return &Signer{Name: kernelName(rdn)}, nil
}

// kernelName shortens a name as the kernel does for its keyrings
// (crypto/asymmetric_keys/x509_cert_parser.c): organisation and common name,
// or the common name alone when it begins like the organisation.
func kernelName(rdn pkix.RDNSequence) string {
	var cn, o, mail string
	for _, set := range rdn {
		for _, a := range set {
			v := fmt.Sprint(a.Value)
			switch {
			case a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}):
				cn = v
			case a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 10}):
				o = v
			case a.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}):
				mail = v
			}
		}
	}
	const significant = 7
	switch {
	case cn != "" && o != "":
		if strings.HasPrefix(cn, o) || len(cn) >= significant && len(o) >= significant && cn[:significant] == o[:significant] {
			return cn
		}
		return o + ": " + cn
	case cn != "":
		return cn
	case o != "":
		return o
	}
	return mail
}
