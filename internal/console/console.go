// SPDX-License-Identifier: Apache-2.0

// Package console serves the console: the web application of web/console, as
// Vite built it, from memory. Files below assets/ have their digest in their
// name and are kept for good; index.html is made for each request, with a nonce
// of its own for the style sheets that the application writes as it runs.
// Every other path below the mount point is the application's own and gets
// index.html, if a person asks; what asks for anything else gets 404.
//
// Nothing here knows a user or a machine: the application talks to the API.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Prefix is the path that the console is served below. It is built into the
// application (web/console/vite.config.ts).
const Prefix = "/console/"

//go:embed all:dist
var dist embed.FS

// nonceMark is what stands in index.html where a response has its nonce.
const nonceMark = "__TSUGI_NONCE__"

// file is one built file, ready to be sent.
type file struct {
	kind    string
	plain   []byte
	gzip    func() []byte // made when it is first asked for; nil: it is not smaller
	etag    string
	forever bool
}

// Handler serves the console below Prefix.
type Handler struct {
	files map[string]*file
	index string
}

// New reads what is built in.
func New() (*Handler, error) {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	return newHandler(sub)
}

func newHandler(built fs.FS) (*Handler, error) {
	h := &Handler{files: map[string]*file{}}
	err := fs.WalkDir(built, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(built, name)
		if err != nil {
			return err
		}
		switch name {
		case "index.html":
			h.index = string(b)
		case "sources.sha256":
		default:
			h.files[name] = newFile(name, b)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("console: %w", err)
	case !strings.Contains(h.index, nonceMark):
		return nil, errors.New("console: index.html has no place for a nonce")
	}
	return h, nil
}

func newFile(name string, b []byte) *file {
	sum := sha256.Sum256(b)
	f := &file{kind: kindOf(name), plain: b, etag: `"` + hex.EncodeToString(sum[:16]) + `"`, forever: strings.HasPrefix(name, "assets/")}
	f.gzip = sync.OnceValue(func() []byte { return smaller(b) })
	return f
}

func smaller(b []byte) []byte {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return nil
	}
	_, _ = w.Write(b)
	if w.Close() != nil || z.Len() > len(b)*9/10 {
		return nil
	}
	return z.Bytes()
}

// kindOf does not ask the system: what /etc/mime.types says of .js differs.
func kindOf(name string) string {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	default:
		if kind := mime.TypeByExtension(ext); kind != "" {
			return kind
		}
		return "application/octet-stream"
	}
}

// policy is what the browser may do with the page. Scripts, requests and
// pictures are this server's own; a style sheet that a script writes has to
// carry the nonce. Nobody frames it, and no form leaves it.
func policy(nonce string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-" + nonce + "'; img-src 'self' data:; " +
		"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// ServeHTTP answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, below := strings.CutPrefix(r.URL.Path, Prefix)
	if !below {
		http.NotFound(w, r)
		return
	}
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if f := h.files[name]; f != nil {
		f.serve(w, r)
		return
	}
	if strings.HasPrefix(name, "assets/") || !forPeople(r) {
		head.Set("Cache-Control", "no-store") // a replica that is not upgraded yet lacks it
		http.NotFound(w, r)
		return
	}
	h.serveIndex(w, r)
}

// forPeople reports whether a page is asked for, and not a file or data.
func forPeople(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for _, kind := range strings.Split(accept, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if k := strings.ToLower(strings.TrimSpace(kind)); k == "text/html" || k == "application/xhtml+xml" {
				return true
			}
		}
	}
	return false
}

func (h *Handler) serveIndex(w http.ResponseWriter, r *http.Request) {
	var random [18]byte
	_, _ = rand.Read(random[:]) // never fails
	nonce := base64.StdEncoding.EncodeToString(random[:])
	page := strings.ReplaceAll(h.index, nonceMark, nonce)
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Content-Security-Policy", policy(nonce))
	head.Set("Cache-Control", "no-store") // a nonce is for one response
	head.Set("Vary", "Accept")
	head.Set("Content-Length", strconv.Itoa(len(page)))
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(page))
	}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", f.kind)
	head.Set("ETag", f.etag)
	head.Set("Vary", "Accept-Encoding")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	head.Set("Cache-Control", "no-cache")
	if f.forever {
		head.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if sameTag(r.Header.Get("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b := f.plain
	if takesGzip(r) {
		if z := f.gzip(); z != nil {
			b = z
			head.Set("Content-Encoding", "gzip")
		}
	}
	head.Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

func sameTag(list, tag string) bool {
	for _, t := range strings.Split(list, ",") {
		if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
			return true
		}
	}
	return false
}

// takesGzip reads Accept-Encoding; "gzip;q=0" refuses it.
func takesGzip(r *http.Request) bool {
	for _, e := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(e, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		v, weighted := strings.CutPrefix(strings.ReplaceAll(q, " ", ""), "q=")
		if !weighted {
			return true
		}
		f, err := strconv.ParseFloat(v, 64)
		return err == nil && f > 0
	}
	return false
}
