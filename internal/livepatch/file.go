// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	manifestName = "manifest.json"
	sumName      = "manifest.sha256"
	payloadDir   = "sha256/"

	maxManifest = 16 << 20
	maxFile     = 512 << 20
)

// Patch is a live patch: its manifest and the bytes that it points at.
type Patch struct {
	Manifest Manifest
	blobs    map[string][]byte // by digest
}

// New makes a live patch. It fills in the format number, the order of the
// functions and callbacks, the module's payload and the payload of each fix, for which
// diffs holds the text by fix id. The manifest that is passed stays as it is.
func New(m Manifest, moduleName string, module []byte, diffs map[string][]byte) (*Patch, error) {
	p := &Patch{Manifest: m, blobs: map[string][]byte{}}
	p.Manifest.Format = kernelFormat
	p.Manifest.Callbacks = slices.Compact(slices.Sorted(slices.Values(m.Callbacks)))
	p.Manifest.Module = p.put(moduleName, module)
	return p, p.finish(diffs)
}

// finish orders the functions, puts the diffs of the fixes into the file and
// checks the whole.
func (p *Patch) finish(diffs map[string][]byte) error {
	p.Manifest.Functions = slices.Clone(p.Manifest.Functions)
	SortFunctions(p.Manifest.Functions)
	p.Manifest.Fixes = slices.Clone(p.Manifest.Fixes)
	for i := range p.Manifest.Fixes {
		f := &p.Manifest.Fixes[i]
		d, ok := diffs[f.ID]
		if !ok {
			return invalid("fix %s: no diff", f.ID)
		}
		f.Diff = p.put(fileName(f.ID)+".diff", d)
	}
	return p.Manifest.Check()
}

func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '_'
		}
		return r
	}, s)
}

func (p *Patch) put(name string, b []byte) Payload {
	d := digest(b)
	p.blobs[d] = b
	return Payload{Name: name, Digest: d, Size: int64(len(b))}
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Module returns the .ko file, nil for a live patch of a package.
func (p *Patch) Module() []byte { return p.blobs[p.Manifest.Module.Digest] }

// Payload returns the bytes that a payload of the manifest points at.
func (p *Patch) Payload(of Payload) ([]byte, bool) {
	b, ok := p.blobs[of.Digest]
	return b, ok
}

// Bytes returns the file.
func (p *Patch) Bytes() ([]byte, error) {
	if err := p.Manifest.Check(); err != nil {
		return nil, err
	}
	head, err := p.Manifest.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := member(w, manifestName, head); err != nil {
		return nil, err
	}
	if err := member(w, sumName, []byte(digest(head)+"\n")); err != nil {
		return nil, err
	}
	want := map[string]bool{}
	for pl := range p.Manifest.payloads() {
		if _, ok := p.blobs[pl.Digest]; !ok {
			return nil, code.New("TS7002", pl.Name, "it is missing")
		}
		want[pl.Digest] = true
	}
	for _, d := range slices.Sorted(maps.Keys(want)) {
		if err := member(w, payloadDir+d, p.blobs[d]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func member(w *tar.Writer, name string, b []byte) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b)),
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(b)
	return err
}

// Digest returns the SHA-256 of the file that Bytes writes, in hex.
func (p *Patch) Digest() (string, error) {
	b, err := p.Bytes()
	if err != nil {
		return "", err
	}
	return digest(b), nil
}

// Read reads a file that Bytes wrote.
func Read(b []byte) (*Patch, error) {
	if len(b) > maxFile {
		return nil, damaged("%d bytes, more than %d", len(b), maxFile)
	}
	p := &Patch{blobs: map[string][]byte{}}
	var sum string
	t := tar.NewReader(bytes.NewReader(b))
	for i := 0; ; i++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, code.New("TS7001", "", fmt.Sprintf("member %d", i)).With(err)
		}
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > int64(len(b)) {
			return nil, damaged("member %d is not a plain file", i)
		}
		if err := p.member(i, h.Name, h.Size, t, &sum); err != nil {
			return nil, err
		}
	}
	if p.Manifest.Format == 0 {
		return nil, damaged("no %s", manifestName)
	}
	for pl := range p.Manifest.payloads() {
		if got, ok := p.blobs[pl.Digest]; !ok || int64(len(got)) != pl.Size {
			return nil, code.New("TS7002", pl.Name, "it is missing or has another size")
		}
	}
	// What the archive's headers say beside names and sizes, members that the
	// manifest does not name, and bytes after the end are all caught by this.
	again, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, damaged("it is not in canonical form")
	}
	return p, nil
}

func (p *Patch) member(i int, name string, size int64, r io.Reader, sum *string) error {
	if i == 0 && (name != manifestName || size > maxManifest) {
		return damaged("its first member is not a %s of at most %d bytes", manifestName, maxManifest)
	}
	b, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return code.New("TS7001", name, "").With(err)
	}
	if i == 0 {
		*sum = digest(b)
		m, err := ParseManifest(b)
		if err != nil {
			return err
		}
		p.Manifest = *m
		return nil
	}
	if i == 1 {
		if name != sumName || string(b) != *sum+"\n" {
			return code.New("TS7002", manifestName, "its digest is "+*sum)
		}
		return nil
	}
	hex, ok := strings.CutPrefix(name, payloadDir)
	if !ok {
		return damaged("member %d has an unknown name", i)
	}
	if got := digest(b); got != hex {
		return code.New("TS7002", name, "the bytes have the digest "+got)
	}
	p.blobs[hex] = b
	return nil
}

func damaged(format string, args ...any) error {
	return code.New("TS7001", "", fmt.Sprintf(format, args...))
}
