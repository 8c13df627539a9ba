// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// The CVE fixes of Debian's openssl 3.0.20-1~deb12u2, and the version before
// them that the archive still has, which lacks them all.
const (
	vulnerable = "debian:libssl3=3.0.17-1~deb12u2"
	repaired   = "debian:libssl3=3.0.20-1~deb12u2"
)

// openSSL are the fixes by the patches that make them up, with the functions of
// 3.0.17 that each changes.
var openSSL = []struct {
	cve       string
	patches   []string
	file      string // taken whole, where a patch builds on a change that 3.0.17 lacks
	functions string
}{
	// 3.0.17 takes no notice of what out_utf8 and cpy_utf8 return, and type_str has been repaired since.
	{cve: "CVE-2026-7383", file: "crypto/asn1/a_mbstr.c", functions: "ASN1_mbstring_ncopy cpy_utf8 out_utf8 type_str"},
	{cve: "CVE-2026-9076", patches: []string{"cms-kek_unwrap_key-Fix-out-of-bounds-read-in-check-byte-v"}, functions: "ossl_cms_RecipientInfo_pwri_crypt"},
	{cve: "CVE-2026-34180", patches: []string{"Avoid-length-truncation-in-ASN1_STRING_set"}, functions: "asn1_d2i_ex_primitive"},
	// Whether a message is to be authenticated is a new argument, of the first.
	{
		cve:       "CVE-2026-34182",
		patches:   []string{"CMS-Produce-error-when-AEAD-algorithms-are-used-in-envelo", "Reject-potentially-forged-encrypted-CMS-AuthEnvelopedData"},
		functions: "ossl_cms_AuthEnvelopedData_init_bio ossl_cms_EncryptedContent_init_bio ossl_cms_EncryptedData_init_bio ossl_cms_EnvelopedData_init_bio",
	},
	{cve: "CVE-2026-42766", patches: []string{"Fix-potential-NULL-dereference-processing-CMS-PasswordRec"}, functions: "ossl_cms_RecipientInfo_pwri_crypt"},
	{cve: "CVE-2026-42770", patches: []string{"Match-the-local-q-DHX-parameter-against-the-peer-s-q"}, functions: "dh_set_peer"},
	{cve: "CVE-2026-45445", patches: []string{"Apply-the-buffered-IV-on-the-AES-OCB-EVP_Cipher-path"}, functions: "aes_ocb_cipher"},
	{cve: "CVE-2026-45446", patches: []string{"Fix-handling-of-empty-ciphertext-messages-in-AES-SIV"}, functions: "aes_siv_set_ctx_params"},
	{cve: "CVE-2026-45447", patches: []string{"Fix-possible-use-after-free-in-OpenSSL-PKCS7_verify"}, functions: "PKCS7_verify"},
}

// unneeded are files of the patches that processes can't get or do not run:
// tests, and the text of one error message. Its table of all messages would
// grow, which is refused (TS4011); the new error is told by its number.
func unneeded(p string) bool {
	return strings.HasPrefix(p, "test/") || p == "crypto/err/openssl.txt" || p == "crypto/cms/cms_err.c"
}

// fixesOf adapts the fixes to the sources of 3.0.17, all but those of one CVE.
// They build on each other where they change one file, so they are one diff.
func fixesOf(t *testing.T, old, with *userland.Target, of func(cve string) bool) []*fix.Fix {
	t.Helper()
	var fixes, parts []*fix.Fix
	for _, x := range openSSL {
		switch {
		case !of(x.cve):
		case x.file != "":
			fixes = append(fixes, fileOf(t, old, with, x.cve, x.file))
		default:
			for _, p := range x.patches {
				parts = append(parts, patchOf(t, with, p+".patch"))
			}
		}
	}
	if len(parts) > 0 {
		f, err := adapted(t, old, "CVE-fixes-of-3.0.20", unneeded, parts...)
		qt.Assert(t, qt.IsNil(err))
		fixes = append(fixes, f)
	}
	return fixes
}

func TestNineFixesOfOpenSSL(t *testing.T) {
	old, with := target(t, vulnerable), target(t, repaired)
	libs := libraries(t, old)
	show := compile(t, "openssl.c", "-lcrypto")
	p := talk(t, []string{"LD_LIBRARY_PATH=" + libs}, show)
	server := serve(t, libs)

	// ask asks the process for all of them.
	ask := func(when string, vulnerable func(cve string) bool) {
		t.Helper()
		for _, x := range openSSL {
			got := p.ask(x.cve)
			want := "fixed"
			if vulnerable(x.cve) {
				want = "vulnerable: "
			}
			t.Logf("%s: %s: %s", when, x.cve, got)
			qt.Check(t, qt.IsTrue(strings.HasPrefix(got, want)), qt.Commentf("%s: %s: %s", when, x.cve, got))
		}
	}
	every := func(string) bool { return true }
	none := func(string) bool { return false }
	ask("before", every)

	// Each by itself, in and out.
	for _, x := range openSSL {
		r := live(t, old, fixesOf(t, old, with, func(cve string) bool { return cve == x.cve })...)
		got := changed(r)
		slices.Sort(got)
		qt.Check(t, qt.Equals(strings.Join(got, " "), x.functions))
		into(t, p.pid(), r)
		answer := p.ask(x.cve)
		qt.Check(t, qt.Equals(answer, "fixed"), qt.Commentf("%s", x.cve))
		t.Logf("%s: %d functions: %v: %s", x.cve, len(got), got, answer)
		outOf(t, p.pid())
	}
	ask("out again", every)

	// All in one; all but one over it; out.
	all := live(t, old, fixesOf(t, old, with, every)...)
	t.Logf("all: %d functions, %d bytes of code: %v", len(all.Replaced), all.Files[0].Text, changed(all))
	into(t, p.pid(), all)
	into(t, server.pid, all)
	ask("all", none)

	const left = "CVE-2026-45445"
	but := live(t, old, fixesOf(t, old, with, func(cve string) bool { return cve != left })...)
	into(t, p.pid(), but)
	into(t, server.pid, but)
	ask("all but "+left, func(cve string) bool { return cve == left })

	outOf(t, p.pid())
	outOf(t, server.pid)
	ask("out of all", every)
	p.quit()
	server.end()
}
