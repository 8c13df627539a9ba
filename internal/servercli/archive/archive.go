// SPDX-License-Identifier: Apache-2.0

// Package archive is the file that tsugi-server backup writes: a tar archive
// in a zstd frame that ordinary tools can open.
//
//	tsugi-backup.json  what this is, always first: see Info
//	server.yaml        the configuration
//	database           what package store dumps
//	blobs/NAME         the files, but for the object cache
//	keys/…, ca/…       only when they were asked for
//	SHA256SUMS         of all the others in their order, always last, as sha256sum -c reads it
//
// Read takes nothing for granted: an archive that was cut, damaged or edited
// without its sums is refused (TS7808).
package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Format is the number of this version of the file.
const Format = 1

// Names of members.
const (
	InfoName = "tsugi-backup.json"
	Config   = "server.yaml"
	Database = "database"
	Blobs    = "blobs/"
	Keys     = "keys/"
	CA       = "ca/"
	sumsName = "SHA256SUMS"
)

// Limits of a member that is read into memory, and of the sums.
const (
	MaxSmall = 1 << 20
	maxSums  = 1 << 30
	maxName  = 1000
)

// Info says what an archive is.
type Info struct {
	Format  int    `json:"format"`
	Program string `json:"program"`
	Created int64  `json:"created"` // milliseconds
	URL     string `json:"url"`
	Engine  string `json:"database"`
	Storage string `json:"storage"`
	Keys    bool   `json:"keys"` // keys/ and ca/ are in it
}

// Writer writes an archive.
type Writer struct {
	zstd *zstd.Encoder
	tar  *tar.Writer
	sums bytes.Buffer
	when time.Time
}

// NewWriter starts an archive.
func NewWriter(w io.Writer, info Info) (*Writer, error) {
	enc, err := zstd.NewWriter(w)
	if err != nil {
		return nil, err
	}
	a := &Writer{zstd: enc, tar: tar.NewWriter(enc), when: time.UnixMilli(info.Created).UTC().Truncate(time.Second)}
	info.Format = Format
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return nil, err
	}
	return a, a.AddBytes(InfoName, append(b, '\n'))
}

// AddBytes adds a small member.
func (a *Writer) AddBytes(name string, b []byte) error {
	return a.Add(name, int64(len(b)), bytes.NewReader(b))
}

// Add adds a member of exactly so many bytes.
func (a *Writer) Add(name string, size int64, r io.Reader) error {
	if err := a.header(name, size); err != nil {
		return err
	}
	sum := sha256.New()
	if n, err := io.Copy(io.MultiWriter(a.tar, sum), r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	} else if n != size {
		return fmt.Errorf("%s: %d bytes of %d", name, n, size)
	}
	fmt.Fprintf(&a.sums, "%x  %s\n", sum.Sum(nil), name)
	return nil
}

func (a *Writer) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: a.when, Typeflag: tar.TypeReg, Format: tar.FormatPAX})
}

// Close writes the sums and ends the archive; w stays open.
func (a *Writer) Close() error {
	if err := a.header(sumsName, int64(a.sums.Len())); err != nil {
		return err
	}
	if _, err := a.tar.Write(a.sums.Bytes()); err != nil {
		return err
	}
	return errors.Join(a.tar.Close(), a.zstd.Close())
}

// Read reads an archive and calls member with each of its members but the
// sums, in order; the first is InfoName. member need not read to the end. When
// Read returns nil, everything was whole; what it has passed on before an
// error may not have been.
func Read(r io.Reader, member func(name string, size int64, r io.Reader) error) (Info, error) {
	info, err := read(r, member)
	if err == nil {
		return info, nil
	}
	if _, ok := errors.AsType[*passed](err); ok {
		return info, errors.Unwrap(err)
	}
	if _, ok := errors.AsType[*code.Problem](err); ok {
		return info, err
	}
	return info, code.New("TS7808", "", "").With(err)
}

// passed is an error of the caller's.
type passed struct{ err error }

func (p *passed) Error() string { return p.err.Error() }
func (p *passed) Unwrap() error { return p.err }

func read(r io.Reader, member func(string, int64, io.Reader) error) (info Info, err error) {
	dec, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return info, err
	}
	defer dec.Close()
	t := tar.NewReader(dec)
	var sums bytes.Buffer
	seen := map[string]bool{}
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return info, errors.New("it ends before its sums: it was cut")
		}
		if err != nil {
			return info, err
		}
		if h.Typeflag != tar.TypeReg || !goodName(h.Name) || h.Size < 0 || seen[h.Name] {
			return info, fmt.Errorf("member %.200q does not belong into a backup", h.Name)
		}
		if len(seen) == 0 && h.Name != InfoName {
			return info, errors.New("it is no backup of a tsugi-server")
		}
		if h.Name == sumsName {
			return info, checkSums(t, h.Size, sums.Bytes())
		}
		seen[h.Name] = true
		sum := sha256.New()
		body := io.TeeReader(t, sum)
		if h.Name == InfoName {
			if info, body, err = readInfo(body, h.Size); err != nil {
				return info, err
			}
		}
		if err := member(h.Name, h.Size, body); err != nil {
			return info, &passed{err}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return info, err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), h.Name)
	}
}

// checkSums compares the last member and sees that nothing follows.
func checkSums(t *tar.Reader, size int64, want []byte) error {
	if size > maxSums || size != int64(len(want)) {
		return errors.New("its sums are of other members")
	}
	got, err := io.ReadAll(t)
	if err != nil {
		return err
	}
	gotLines, wantLines := strings.SplitAfter(string(got), "\n"), strings.SplitAfter(string(want), "\n")
	for i := range wantLines {
		if i >= len(gotLines) || gotLines[i] != wantLines[i] {
			_, name, _ := strings.Cut(strings.TrimSpace(wantLines[i]), "  ")
			return fmt.Errorf("%s is damaged: its sum is another", name)
		}
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its sums")
	}
	return nil
}

func readInfo(r io.Reader, size int64) (Info, io.Reader, error) {
	var info Info
	if size > MaxSmall {
		return info, nil, errors.New(InfoName + " is too long")
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return info, nil, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, nil, fmt.Errorf("%s: %w", InfoName, err)
	}
	if info.Format != Format {
		return info, nil, code.New("TS7808", "", fmt.Sprintf("its format is %d, this program knows %d", info.Format, Format)).WithFix("use the release of tsugi-server that made it, or a newer one")
	}
	return info, bytes.NewReader(b), nil
}

// goodName keeps every member below the directory that it is restored to.
func goodName(name string) bool {
	return name != "" && len(name) <= maxName && path.Clean(name) == name && !path.IsAbs(name) &&
		name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\x00\n\\")
}
