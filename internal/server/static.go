// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"path"
	"regexp"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// TUF's files are plain files: any CDN or file server can carry them instead.
var (
	metadataForm = regexp.MustCompile(`^([1-9][0-9]{0,15}\.)?[a-z][a-z0-9-]{0,63}\.json$`)
	targetForm   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}/[A-Za-z0-9][A-Za-z0-9.+~_-]{0,350}$`)
	hashedForm   = regexp.MustCompile(`^[0-9a-f]{64}\.`)
)

const (
	immutable = "public, max-age=31536000, immutable"
	// The timestamp is what says that there is something new: a cache has to
	// ask each time, and gets 304.
	fresh = "no-cache"
	// slowest is the rate that a client must keep up with, in bytes a second.
	slowest = 8 << 10
)

// tufMetadata answers GET /tuf/metadata/{file}.
func (s *Server) tufMetadata(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if !metadataForm.MatchString(name) {
		s.writeFault(w, r, noFile(r))
		return
	}
	b, err := s.smallFile(r, "tuf/metadata/"+name)
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	cache := fresh
	if name[0] >= '0' && name[0] <= '9' {
		cache = immutable
	}
	serveBytes(w, r, "application/json", cache, b)
}

// smallFile reads a file that is read whole anyway.
func (s *Server) smallFile(r *http.Request, name string) ([]byte, error) {
	f, info, err := s.blobs.Open(r.Context(), name)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, noFile(r)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size > api.MaxArtifact {
		return nil, noFile(r)
	}
	return io.ReadAll(io.LimitReader(f, info.Size))
}

func noFile(r *http.Request) error { return refuse("TS7605", "", "no file "+r.URL.Path) }

// serveBytes sends a small file with an ETag of its content.
func serveBytes(w http.ResponseWriter, r *http.Request, kind, cache string, b []byte) {
	h := sha256.Sum256(b)
	head := w.Header()
	head.Set("Content-Type", kind)
	head.Set("Cache-Control", cache)
	head.Set("ETag", `"`+hex.EncodeToString(h[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// tufTarget answers GET /tuf/targets/{path...}. With consistent snapshots the
// digest is in the name, so the name says all that an ETag could.
func (s *Server) tufTarget(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("path")
	base := path.Base(name)
	if !targetForm.MatchString(name) || !hashedForm.MatchString(base) {
		s.writeFault(w, r, noFile(r))
		return
	}
	f, info, err := s.blobs.Open(r.Context(), "tuf/targets/"+name)
	if errors.Is(err, blob.ErrNotFound) {
		s.writeFault(w, r, noFile(r))
		return
	} else if err != nil {
		s.writeFault(w, r, err)
		return
	}
	defer f.Close()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30*time.Second + time.Duration(info.Size/slowest)*time.Second))
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", immutable)
	h.Set("ETag", `"`+base[:32]+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
}

// ca answers GET /v1/ca.pem.
func (s *Server) ca(w http.ResponseWriter, r *http.Request) {
	if len(s.opts.CA) == 0 {
		s.writeFault(w, r, refuse("TS7605", "", "the certificate of this server is not of its own CA"))
		return
	}
	serveBytes(w, r, "application/x-pem-file", "public, max-age=300", s.opts.CA)
}

// root answers GET /v1/root.json: the first TUF root, which machines pin by
// the digest that they were enrolled with.
func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	b, err := s.publish.FirstRoot(r.Context())
	if err != nil {
		s.writeFault(w, r, err)
		return
	}
	serveBytes(w, r, "application/json", "public, max-age=300", b)
}
