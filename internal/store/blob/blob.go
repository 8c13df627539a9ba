// SPDX-License-Identifier: Apache-2.0

// Package blob keeps the server's files: metadata and targets of TUF,
// artifacts, results of jobs, cached objects. They lie in a folder or in a
// bucket of an S3-compatible store, which several servers may share.
//
// A blob appears whole or not at all: who opens a name gets the bytes of one
// Put, also while another one replaces it. When Put has returned, the blob is
// durable. Names are slash-separated paths whose parts hold letters, digits
// and . _ - + ~ = @, and begin with no dot; others are refused (TS7411). A
// name that goes on below another blob's name ("a" and "a/b") is possible in a
// bucket but not in a folder: do not use such names.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ErrNotFound says that there is no blob of a name.
var ErrNotFound = errors.New("blob not found")

// Info is what is known of a blob without reading it.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
}

// Store is a place for blobs. All methods are safe for concurrent use.
type Store interface {
	// Put stores a blob in place of one that is there. r must give exactly
	// size bytes (TS7413); -1 stands for as many as there are.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Open opens a blob for reading from any place.
	Open(ctx context.Context, name string) (io.ReadSeekCloser, Info, error)
	Stat(ctx context.Context, name string) (Info, error)
	// List gives the blobs whose names begin with prefix, in the order of the
	// bytes of their names. It ends with the first error.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes a blob; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

const (
	maxName = 900 // S3 allows 1,024 bytes, prefix included
	maxPart = 255 // and file systems this for each part
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_+~=@-][A-Za-z0-9._+~=@-]*(/[A-Za-z0-9_+~=@-][A-Za-z0-9._+~=@-]*)*$`)

// CheckName says why a blob cannot have a name.
func CheckName(name string) error {
	bad := len(name) > maxName || !nameForm.MatchString(name)
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || len(part) > maxPart
	}
	if bad {
		return code.New("TS7411", fmt.Sprintf("%.300q", name), "")
	}
	return nil
}

// startsNames reports whether a name can begin with prefix.
func startsNames(prefix string) bool {
	return prefix == "" || CheckName(strings.TrimSuffix(prefix, "/")) == nil
}

// exact passes on a reader that gives exactly size bytes. It gives the last
// ones only when it has seen that no more follow, so that whoever reads it
// never has a whole blob of the wrong size.
type exact struct {
	r         io.Reader
	name      string
	size, got int64
}

func (e *exact) Read(p []byte) (int, error) {
	left := e.size - e.got
	if left == 0 {
		return 0, e.end()
	}
	n, err := e.r.Read(p[:min(int64(len(p)), left)])
	e.got += int64(n)
	switch {
	case n > 0 && int64(n) == left:
		if end := e.end(); !errors.Is(end, io.EOF) {
			return 0, end
		}
		return n, nil
	case errors.Is(err, io.EOF):
		return n, code.New("TS7413", e.name, fmt.Sprintf("%d bytes, %d were announced", e.got, e.size))
	}
	return n, err
}

// end is io.EOF if nothing follows.
func (e *exact) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(e.r, one[:]); {
	case n > 0:
		return code.New("TS7413", e.name, fmt.Sprintf("more than the %d bytes that were announced", e.size))
	default:
		return err
	}
}

func sized(r io.Reader, name string, size int64) io.Reader {
	if size < 0 {
		return r
	}
	return &exact{r: r, name: name, size: size}
}
