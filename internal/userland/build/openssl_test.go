// SPDX-License-Identifier: Apache-2.0

package build

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// prepared returns a target that was added before, or ends the test.
func prepared(t *testing.T, name string) *userland.Target {
	t.Helper()
	if os.Getenv("TSUGI_TEST_USERLAND") == "" {
		t.Skip("TSUGI_TEST_USERLAND is not set: it takes prepared package targets")
	}
	home, err := kernel.Home()
	qt.Assert(t, qt.IsNil(err))
	s, err := userland.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	target, err := s.Get(name)
	qt.Assert(t, qt.IsNil(err))
	return target
}

// reversed is the diff that takes a fix out.
func reversed(f *fix.Fix) *fix.Fix {
	out := *f
	out.Files = nil
	for _, d := range f.Files {
		if ignored(d.Path) != "" {
			continue
		}
		d.Hunks = slices.Clone(d.Hunks)
		for i := range d.Hunks {
			h := &d.Hunks[i]
			h.OldStart, h.NewStart, h.OldLines, h.NewLines = h.NewStart, h.OldStart, h.NewLines, h.OldLines
			h.Lines = slices.Clone(h.Lines)
			for k := range h.Lines {
				switch h.Lines[k].Op {
				case '+':
					h.Lines[k].Op = '-'
				case '-':
					h.Lines[k].Op = '+'
				}
			}
		}
		out.Files = append(out.Files, d)
	}
	return &out
}

// without makes a target of the same package without fixes that it has: its
// source, and the files that its recorded commands make of it.
func without(t *testing.T, from *userland.Target, fixes ...*fix.Fix) (*userland.Target, []userland.Shipped) {
	t.Helper()
	top := filepath.Join(from.Home(), "userland", "work")
	qt.Assert(t, qt.IsNil(os.MkdirAll(top, 0o755)))
	dir, err := os.MkdirTemp(top, "test-*")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { os.RemoveAll(dir) })
	qt.Assert(t, qt.IsNil(os.Chmod(dir, 0o755)))
	changes := map[string][]byte{}
	for _, f := range fixes {
		list, err := reversed(f).Apply(func(p string) ([]byte, error) {
			if b, ok := changes[p]; ok {
				return b, nil
			}
			return os.ReadFile(filepath.Join(from.Build, p))
		})
		qt.Assert(t, qt.IsNil(err))
		for _, c := range list {
			changes[c.Path] = c.New
		}
	}

	// The source: the same files but for those that change.
	target := *from
	target.Build = filepath.Join(dir, filepath.Base(from.Build))
	run(t, dir, "cp", "-al", from.Build, target.Build)
	target.Packages = slices.Clone(from.Packages)
	for _, f := range fixes {
		target.Packages = append(target.Packages, kernel.Input{Name: "without-" + f.ID, Digest: strings.Repeat("0", 64)})
	}
	slices.SortFunc(target.Packages, func(x, y kernel.Input) int { return strings.Compare(x.Name, y.Name) })
	scratch := filepath.Join(dir, "scratch")
	qt.Assert(t, qt.IsNil(os.Mkdir(scratch, 0o755)))
	touched := map[string]bool{}
	for name, text := range changes {
		for _, top := range []string{target.Build, filepath.Join(scratch, "upper")} {
			file := filepath.Join(top, name)
			qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
			os.Remove(file) // not through the link into what it was copied from
			qt.Assert(t, qt.IsNil(os.WriteFile(file, text, 0o644)))
		}
		for _, cmd := range from.Commands().OfSource(from.BuildPath + "/" + name) {
			_, err := from.Run(t.Context(), userland.Run{Argv: cmd.Argv, Dir: cmd.Dir, Scratch: scratch})
			qt.Assert(t, qt.IsNil(err))
			touched[cmd.Object] = true
		}
	}
	for _, l := range from.Commands().Links {
		if !slices.ContainsFunc(l.Inputs, func(in string) bool { return touched[in] }) {
			continue
		}
		if strings.HasSuffix(l.Output, ".a") { // ar would put it behind the old one
			_, err := from.Run(t.Context(), userland.Run{Argv: []string{"rm", l.Output}, Dir: l.Dir, Scratch: scratch})
			qt.Assert(t, qt.IsNil(err))
		}
		_, err := from.Run(t.Context(), userland.Run{Argv: l.Argv, Dir: l.Dir, Scratch: scratch})
		qt.Assert(t, qt.IsNil(err))
		touched[l.Output] = true
	}
	files := slices.Clone(from.Files)
	for i := range files {
		s := &files[i]
		if !touched[s.RebuiltInside] {
			continue
		}
		made := filepath.Join(scratch, "upper", strings.TrimPrefix(s.RebuiltInside, from.BuildPath))
		s.File = filepath.Join(dir, path.Base(s.Path))
		run(t, dir, "strip", "-o", s.File, made)
		s.BuildID, s.SymbolFile = openDSO(t, made).BuildID, made
		s.Rebuilt, s.Identical, s.SymbolsFrom = made, true, userland.SymbolsRebuilt
	}
	return &target, files
}

// debianFixes are the CVE fixes of openssl 3.0.20-1~deb12u2 as Debian's quilt
// series has them, and the functions that each changes.
var debianFixes = map[string][2]string{
	"CVE-2026-7383":  {"Reject-oversized-inputs-in-ASN1_mbstring_ncopy.patch", "ASN1_mbstring_ncopy out_utf8"},
	"CVE-2026-9076":  {"cms-kek_unwrap_key-Fix-out-of-bounds-read-in-check-byte-v.patch", "ossl_cms_RecipientInfo_pwri_crypt"},
	"CVE-2026-34180": {"Avoid-length-truncation-in-ASN1_STRING_set.patch", "asn1_d2i_ex_primitive"},
	"CVE-2026-34182": {"Reject-potentially-forged-encrypted-CMS-AuthEnvelopedData.patch", "ossl_cms_EncryptedContent_init_bio"},
	"CVE-2026-42766": {"Fix-potential-NULL-dereference-processing-CMS-PasswordRec.patch", "ossl_cms_RecipientInfo_pwri_crypt"},
	"CVE-2026-42770": {"Match-the-local-q-DHX-parameter-against-the-peer-s-q.patch", "dh_set_peer"},
	"CVE-2026-45445": {"Apply-the-buffered-IV-on-the-AES-OCB-EVP_Cipher-path.patch", "aes_ocb_cipher"},
	"CVE-2026-45446": {"Fix-handling-of-empty-ciphertext-messages-in-AES-SIV.patch", "aes_siv_set_ctx_params"},
	"CVE-2026-45447": {"Fix-possible-use-after-free-in-OpenSSL-PKCS7_verify.patch", "PKCS7_verify"},
}

// debianFix reads one of them.
func debianFix(t *testing.T, from *userland.Target, cve string) *fix.Fix {
	t.Helper()
	name := debianFixes[cve][0]
	text, err := os.ReadFile(filepath.Join(from.Build, "debian/patches", name))
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse(name, text)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// theNine builds live patches of fixes for a library without some, and checks
// that they change what those of the CVEs should.
func theNine(t *testing.T, target *userland.Target, files []userland.Shipped, cves []string, fixes []*fix.Fix) {
	t.Helper()
	var want []string
	for _, cve := range cves {
		want = append(want, strings.Fields(debianFixes[cve][1])...)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	r, err := Build(t.Context(), Request{Target: target, Fixes: fixes, files: files}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Verdict, Live), qt.Commentf("%v", r.Refusals))
	var got []string
	for _, x := range r.Replaced {
		got = append(got, x.Name)
		qt.Check(t, qt.Equals(x.Object, "libcrypto.so.3"))
		qt.Check(t, qt.Equals(x.SymPos > 0, x.Name == "aes_ocb_cipher"), qt.Commentf("%s,%d", x.Name, x.SymPos))
	}
	slices.Sort(got)
	qt.Check(t, qt.DeepEquals(got, want))
	qt.Assert(t, qt.HasLen(r.Files, 1))
	encoded, ok := r.Artifact.Splice(r.Artifact.Manifest.Files[0])
	qt.Assert(t, qt.IsTrue(ok))
	s, err := splice.Decode(encoded)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.BuildID, r.Files[0].BuildID))
	t.Logf("%v, %d bytes of code, %d of constants, %v", got, len(s.Text), len(s.ROData), r.Stages)
}

func TestTheNineFixesOfOpenSSLChangeWhatTheyShould(t *testing.T) {
	from := prepared(t, "debian:libssl3=3.0.20-1~deb12u2")
	cves := slices.Sorted(maps.Keys(debianFixes))
	for _, cve := range cves {
		t.Run(cve, func(t *testing.T) {
			f := debianFix(t, from, cve)
			target, files := without(t, from, f)
			theNine(t, target, files, []string{cve}, []*fix.Fix{f})
		})
	}
	t.Run("all, and all but one", func(t *testing.T) {
		var all []*fix.Fix
		for _, cve := range cves {
			all = append(all, debianFix(t, from, cve))
		}
		target, files := without(t, from, all...)
		theNine(t, target, files, cves, all)
		for i, cve := range cves {
			t.Log("all but " + cve)
			theNine(t, target, files, slices.Delete(slices.Clone(cves), i, i+1), slices.Delete(slices.Clone(all), i, i+1))
		}
	})
}
