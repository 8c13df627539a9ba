// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"
)

// source is where the application is written.
const source = "../../web/console"

// TestBuiltOfTheseSources holds the built files against what they were built
// of, as web/console/digest.mjs wrote it down: CI has no Node.
func TestBuiltOfTheseSources(t *testing.T) {
	t.Parallel()
	want, err := fs.ReadFile(dist, "dist/sources.sha256")
	qt.Assert(t, qt.IsNil(err))
	files := []string{"index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"}
	for _, root := range []string{"src", "public"} {
		err := filepath.WalkDir(filepath.Join(source, root), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(strings.TrimSuffix(name, "x"), ".test.ts") {
				return err
			}
			rel, err := filepath.Rel(source, name)
			if rel != "src/api/schema.d.ts" { // types leave nothing in what is built
				files = append(files, filepath.ToSlash(rel))
			}
			return err
		})
		qt.Assert(t, qt.IsNil(err))
	}
	slices.Sort(files)
	var got strings.Builder
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(source, name))
		qt.Assert(t, qt.IsNil(err))
		fmt.Fprintf(&got, "%x  %s\n", sha256.Sum256(b), name)
	}
	qt.Assert(t, qt.Equals(got.String(), string(want)), qt.Commentf("the console is not built of these sources: make console"))
}

// TestTheClientIsOfThisAPI fails when the API changed and nobody made the
// client anew: every path of the document is one of it, and the other way.
func TestTheClientIsOfThisAPI(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/openapi.yaml")
	qt.Assert(t, qt.IsNil(err))
	schema, err := os.ReadFile(source + "/src/api/schema.d.ts")
	qt.Assert(t, qt.IsNil(err))
	want := fmt.Sprintf("// Of docs/openapi.yaml %x\n", sha256.Sum256(doc))
	qt.Assert(t, qt.IsTrue(bytes.HasPrefix(schema, []byte(want))), qt.Commentf("the console's client is not of this docs/openapi.yaml: make console"))
}

// TestFirstLoad bounds what a browser fetches before the first page is there.
func TestFirstLoad(t *testing.T) {
	t.Parallel()
	h, err := New()
	qt.Assert(t, qt.IsNil(err))
	first := regexp.MustCompile(`(?:src|href)="/console/([^"]+)"`).FindAllStringSubmatch(h.index, -1)
	qt.Assert(t, qt.IsTrue(len(first) > 2))
	sum := len(h.index)
	for _, m := range first {
		f := h.files[m[1]]
		qt.Assert(t, qt.IsNotNil(f), qt.Commentf("index.html names %s", m[1]))
		sum += sent(f)
	}
	biggest := 0 // of the pages, one of which comes too, and a language
	for name, f := range h.files {
		if strings.HasSuffix(name, ".js") && !strings.Contains(h.index, name) {
			biggest = max(biggest, sent(f))
		}
	}
	t.Logf("first load: %d bytes, the biggest of the other files: %d", sum, biggest)
	qt.Check(t, qt.IsTrue(sum+4*biggest <= 300_000))
}

func sent(f *file) int {
	if z := f.gzip(); z != nil {
		return len(z)
	}
	return len(f.plain)
}

// TestNothingFromOutside looks for addresses in what is built. Those that are
// there are names of XML, and places to read more about an error.
func TestNothingFromOutside(t *testing.T) {
	t.Parallel()
	h, err := New()
	qt.Assert(t, qt.IsNil(err))
	harmless := []string{"http://www.w3.org/", "https://react.dev/", "https://mantine.dev/", "https://tanstack.com/", "https://github.com/", "http://localhost", "https://help.mantine.dev"}
	address := regexp.MustCompile(`https?://[^"'` + "`" + `\s)]+`)
	for name, f := range h.files {
		if strings.HasSuffix(name, ".md") {
			continue
		}
		for _, a := range address.FindAllString(string(f.plain), -1) {
			ok := slices.ContainsFunc(harmless, func(p string) bool { return strings.HasPrefix(a, p) })
			qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s has %s", name, a))
		}
	}
	qt.Check(t, qt.IsFalse(address.MatchString(h.index)))
	qt.Check(t, qt.IsFalse(strings.Contains(h.index, "<style")))
	qt.Check(t, qt.IsFalse(regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(h.index)), qt.Commentf("a script in the page"))
}

func site(t *testing.T) *Handler {
	t.Helper()
	h, err := newHandler(fstest.MapFS{
		"index.html":         {Data: []byte(`<meta name="style-nonce" nonce="` + nonceMark + `">`)},
		"icon.svg":           {Data: []byte("<svg/>")},
		"assets/a-1234.js":   {Data: []byte(strings.Repeat("let a = 1;\n", 100))},
		"assets/tiny-1.js":   {Data: []byte("1")},
		"sources.sha256":     {Data: []byte("00  a\n")},
		"assets/b-1234.css":  {Data: []byte("a{}")},
		"assets/c-1.unknown": {Data: []byte{0, 1, 2}},
	})
	qt.Assert(t, qt.IsNil(err))
	return h
}

func ask(h http.Handler, method, path string, head ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	qt.Assert(t, qt.IsNil(err))
	return string(b)
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestServing(t *testing.T) {
	t.Parallel()
	h := site(t)
	for _, c := range []struct {
		name, path, accept string
		status             int
		kind, cache        string
	}{
		{"the page", "/console/", browser, 200, "text/html; charset=utf-8", "no-store"},
		{"a place of the application", "/console/machines/0190?x=1", browser, 200, "text/html; charset=utf-8", "no-store"},
		{"a machine whose name looks like a file", "/console/livepatches/a.b", browser, 200, "text/html; charset=utf-8", "no-store"},
		{"data that there is not", "/console/machines", "application/json", 404, "text/plain; charset=utf-8", "no-store"},
		{"anything", "/console/machines", "*/*", 404, "text/plain; charset=utf-8", "no-store"},
		{"an asset", "/console/assets/a-1234.js", "*/*", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"an asset of another build, for a browser", "/console/assets/a-0.js", browser, 404, "text/plain; charset=utf-8", "no-store"},
		{"what has no digest in its name", "/console/icon.svg", "*/*", 200, "image/svg+xml", "no-cache"},
		{"bytes of no known kind", "/console/assets/c-1.unknown", "*/*", 200, "application/octet-stream", "public, max-age=31536000, immutable"},
		{"what the build wrote for the test", "/console/sources.sha256", "*/*", 404, "text/plain; charset=utf-8", "no-store"},
		{"a way out", "/console/../go.mod", "*/*", 404, "text/plain; charset=utf-8", "no-store"},
		{"the page under its own name", "/console/index.html", "*/*", 404, "text/plain; charset=utf-8", "no-store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := ask(h, "GET", c.path, "Accept", c.accept)
			qt.Check(t, qt.Equals(r.StatusCode, c.status))
			qt.Check(t, qt.Equals(r.Header.Get("Content-Type"), c.kind))
			qt.Check(t, qt.Equals(r.Header.Get("Cache-Control"), c.cache))
			qt.Check(t, qt.Equals(r.Header.Get("X-Content-Type-Options"), "nosniff"))
			qt.Check(t, qt.Equals(r.Header.Get("X-Frame-Options"), "DENY"))
		})
	}
}

func TestEachPageHasItsOwnNonce(t *testing.T) {
	t.Parallel()
	h := site(t)
	nonce := regexp.MustCompile(`nonce="([^"]+)"`)
	seen := map[string]bool{}
	for range 3 {
		r := ask(h, "GET", "/console/", "Accept", browser)
		page := text(t, r)
		m := nonce.FindStringSubmatch(page)
		qt.Assert(t, qt.HasLen(m, 2))
		qt.Check(t, qt.IsFalse(seen[m[1]]))
		seen[m[1]] = true
		csp := r.Header.Get("Content-Security-Policy")
		qt.Check(t, qt.StringContains(csp, "style-src 'self' 'nonce-"+m[1]+"';"))
		qt.Check(t, qt.StringContains(csp, "default-src 'none'; script-src 'self';"))
		qt.Check(t, qt.IsFalse(strings.Contains(csp, "unsafe")))
		qt.Check(t, qt.Equals(r.Header.Get("Content-Length"), fmt.Sprint(len(page))))
	}
}

func TestCompressionAndTags(t *testing.T) {
	t.Parallel()
	h := site(t)
	plain := ask(h, "GET", "/console/assets/a-1234.js")
	want := text(t, plain)
	for accept, zipped := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "": false, "identity": false, "gzip;q=nonsense": false} {
		r := ask(h, "GET", "/console/assets/a-1234.js", "Accept-Encoding", accept)
		got := text(t, r)
		qt.Check(t, qt.Equals(r.Header.Get("Content-Encoding") == "gzip", zipped), qt.Commentf("%q", accept))
		if zipped {
			z, err := gzip.NewReader(strings.NewReader(got))
			qt.Assert(t, qt.IsNil(err))
			b, err := io.ReadAll(z)
			qt.Assert(t, qt.IsNil(err))
			got = string(b)
		}
		qt.Check(t, qt.Equals(got, want))
		qt.Check(t, qt.Equals(r.Header.Get("Vary"), "Accept-Encoding"))
	}
	qt.Check(t, qt.Equals(ask(h, "GET", "/console/assets/tiny-1.js", "Accept-Encoding", "gzip").Header.Get("Content-Encoding"), ""))

	tag := plain.Header.Get("ETag")
	for _, asked := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		r := ask(h, "GET", "/console/assets/a-1234.js", "If-None-Match", asked)
		qt.Check(t, qt.Equals(r.StatusCode, http.StatusNotModified), qt.Commentf("%s", asked))
		qt.Check(t, qt.Equals(text(t, r), ""))
	}
	qt.Check(t, qt.Equals(ask(h, "GET", "/console/assets/a-1234.js", "If-None-Match", `"other"`).StatusCode, http.StatusOK))

	head := ask(h, "HEAD", "/console/assets/a-1234.js")
	qt.Check(t, qt.Equals(text(t, head), ""))
	qt.Check(t, qt.Equals(head.Header.Get("Content-Length"), fmt.Sprint(len(want))))
	head = ask(h, "HEAD", "/console/", "Accept", browser)
	qt.Check(t, qt.Equals(text(t, head), ""))
}

func TestAPageWithoutAPlaceForANonceIsRefused(t *testing.T) {
	t.Parallel()
	_, err := newHandler(fstest.MapFS{"index.html": {Data: []byte("<p>")}})
	qt.Check(t, qt.ErrorMatches(err, "console: .*nonce"))
	_, err = newHandler(fstest.MapFS{})
	qt.Check(t, qt.ErrorMatches(err, "console: .*nonce"))
}
