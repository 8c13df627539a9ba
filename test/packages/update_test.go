// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// TestAnUpdateOfGlibc takes what Debian's u14 changes in u7 apart, and builds
// one live patch of what has a CVE and can be live; then all of it less one CVE.
func TestAnUpdateOfGlibc(t *testing.T) {
	of := target(t, "debian:libc6=2.36-9+deb12u7")
	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	s, err := c.PackageUpdate(t.Context(), store(t), of, glibcFixed, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	t.Logf("%d fixes, %d entries without one", len(s.Fixes), len(s.Unattributed))
	for _, x := range []struct {
		exclude   string
		functions []string
	}{
		{"", []string{"_debug_mid_memalign", "_int_memalign", "parse_expression", "wordexp"}},
		{"CVE-2026-0861", []string{"parse_expression", "wordexp"}},
	} {
		p := selection.Policy{Name: "default"}
		if x.exclude != "" {
			p.Exclusions = []selection.Exclusion{{CVE: x.exclude, Reason: "r", Owner: "o"}}
		}
		r, err := cumulative.BuildPackage(t.Context(), cumulative.PackageRequest{Target: of, Series: s, Policy: p, Now: time.Now()}, progress.Discard)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(r.Report.Verdict, build.Live))
		var cves, functions []string
		for _, f := range r.Artifact.Manifest.Fixes {
			cves = append(cves, f.CVEs...)
		}
		for _, f := range r.Report.Replaced {
			functions = append(functions, f.Name)
		}
		for _, l := range r.Selection.Left { // each of the others has a verdict
			qt.Check(t, qt.Not(qt.Equals(l.Kind, "")), qt.Commentf("%s", l.ID))
		}
		slices.Sort(functions)
		want := slices.DeleteFunc([]string{"CVE-2025-15281", "CVE-2025-8058", "CVE-2026-0861"}, func(c string) bool { return c == x.exclude })
		slices.Sort(cves)
		qt.Check(t, qt.DeepEquals(cves, want))
		qt.Check(t, qt.DeepEquals(functions, x.functions))
	}
}

// TestAnUpdateWhoseSourceIsGone: the archive lists it and does not have it.
func TestAnUpdateWhoseSourceIsGone(t *testing.T) {
	of := target(t, "debian:libssl3=3.0.20-1~deb12u2")
	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	_, err = c.PackageUpdate(t.Context(), store(t), of, "3.0.20-1~deb12u99", progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS3532"))
}

// TestAnUpdateOfOpenSSL builds one live patch of what 3.0.20 fixes in 3.0.17, and
// puts it into a program that shows vulnerabilities and a TLS server under load.
func TestAnUpdateOfOpenSSL(t *testing.T) {
	of := target(t, vulnerable)
	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	s, err := c.PackageUpdate(t.Context(), store(t), of, "3.0.20-1~deb12u2", progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	sure := map[string]bool{}
	for _, f := range s.Fixes {
		possible := f.PossibleCVEs()
		for _, id := range f.CVEs {
			sure[id] = !slices.Contains(possible, id)
		}
	}
	qt.Check(t, qt.DeepEquals(sure, map[string]bool{
		"CVE-2025-68160": false, "CVE-2025-69420": false, // their entries name what calls the function that was wrong
		"CVE-2025-69421": true, "CVE-2026-22796": true,
		"CVE-2026-7383": true, "CVE-2026-9076": true, "CVE-2026-34180": true, "CVE-2026-34182": true, "CVE-2026-42766": true,
		"CVE-2026-42770": true, "CVE-2026-45445": true, "CVE-2026-45446": true, "CVE-2026-45447": true,
	}))
	r, err := cumulative.BuildPackage(t.Context(), cumulative.PackageRequest{Target: of, Series: s, Policy: selection.Policy{Name: "default"}, Now: time.Now()}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Report.Verdict, build.Live))
	names := changed(r.Report)
	slices.Sort(names)
	qt.Check(t, qt.DeepEquals(names, []string{
		"ASN1_mbstring_ncopy", "PKCS12_item_decrypt_d2i_ex", "PKCS7_dataFinal", "PKCS7_dataInit", "PKCS7_digest_from_attributes", "PKCS7_verify",
		"TS_RESP_verify_signature", "aes_ocb_cipher", "aes_siv_set_ctx_params", "asn1_d2i_ex_primitive", "cpy_utf8", "dh_set_peer",
		"linebuffer_write.part.0", "ossl_cms_RecipientInfo_pwri_crypt", "out_utf8", "type_str",
	}))
	// Its new error is of a table that can't be live.
	const open = "CVE-2026-34182"
	for _, l := range r.Selection.Left {
		if slices.Contains(l.Fix.CVEs, open) {
			qt.Check(t, qt.Equals(l.Code, code.Code("TS3514")), qt.Commentf("%s", l.Why))
		} else {
			qt.Check(t, qt.HasLen(l.Fix.CVEs, 0), qt.Commentf("%s: %s", l.ID, l.Why))
		}
	}

	libs := libraries(t, of)
	p := talk(t, []string{"LD_LIBRARY_PATH=" + libs}, compile(t, "openssl.c", "-lcrypto"))
	server := serve(t, libs)
	ask := func(when, want string) {
		t.Helper()
		for _, x := range openSSL {
			got, want := p.ask(x.cve), want
			if x.cve == open {
				want = "vulnerable: "
			}
			qt.Check(t, qt.IsTrue(strings.HasPrefix(got, want)), qt.Commentf("%s: %s: %s", when, x.cve, got))
		}
	}
	ask("before", "vulnerable: ")
	for range 3 {
		into(t, p.pid(), r.Report)
		into(t, server.pid, r.Report)
		ask("with it", "fixed")
		outOf(t, p.pid())
		outOf(t, server.pid)
		ask("out again", "vulnerable: ")
	}
	into(t, server.pid, r.Report)
	time.Sleep(time.Second)
	p.quit()
	server.end()
}
