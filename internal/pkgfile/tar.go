// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Tar is a tar archive being read from its compressed form. Next and Read are
// those of tar.Reader; at the end Next also reads what follows the archive, so
// that a checksum of the compressed stream is verified before io.EOF.
type Tar struct {
	*tar.Reader
	src io.ReadCloser
}

// OpenTar reads a tar archive, plain or compressed with gzip, xz, zstd or
// bzip2; dec nil means Decompress. The caller closes it.
func OpenTar(r io.Reader, dec Decompressor) (*Tar, error) {
	src, err := open(r, dec)
	if err != nil {
		return nil, code.New("TS2202", "tar archive", "").With(err)
	}
	return &Tar{tar.NewReader(src), src}, nil
}

// Next goes on to the next entry; io.EOF after the last.
func (t *Tar) Next() (*tar.Header, error) {
	h, err := t.Reader.Next()
	if err == nil || errors.Is(err, tar.ErrInsecurePath) {
		return h, nil // Extract judges paths itself
	}
	if errors.Is(err, io.EOF) {
		// Archives are padded to their record size, 10 KiB by default.
		n, err := io.Copy(io.Discard, io.LimitReader(t.src, 16<<20))
		if err != nil {
			return nil, code.New("TS2202", "tar archive", "after the last entry").With(err)
		}
		if n == 16<<20 {
			return nil, code.New("TS2202", "tar archive", "more than 16 MiB follow the last entry")
		}
		return nil, io.EOF
	}
	return nil, code.New("TS2202", "tar archive", "").With(err)
}

// Close ends the decompressor, which may be a process.
func (t *Tar) Close() error {
	if err := t.src.Close(); err != nil {
		return fmt.Errorf("tar archive: %w", err)
	}
	return nil
}
