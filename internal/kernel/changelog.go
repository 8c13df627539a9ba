// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/pkgfile"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// maxChangelog bounds what a changelog may unpack to.
const maxChangelog = 64 << 20

// Changelog returns the changelog of one version of the kernel source, out of
// its linux-source package, which is fetched if need be.
func (s *Store) Changelog(ctx context.Context, version string, rep progress.Reporter) ([]byte, error) {
	deb, err := s.sourceDeb(ctx, version, rep)
	if err != nil {
		return nil, err
	}
	var text []byte
	err = readDeb(ctx, deb, func(t *pkgfile.Tar) error {
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return code.New("TS2307", filepath.Base(deb), "no changelog.Debian.gz in it")
			}
			if err != nil {
				return err
			}
			if path.Base(h.Name) != "changelog.Debian.gz" || !strings.Contains(h.Name, "usr/share/doc/") {
				continue
			}
			z, err := gzip.NewReader(t)
			if err != nil {
				return err
			}
			if text, err = io.ReadAll(io.LimitReader(z, maxChangelog+1)); err != nil {
				return err
			}
			if len(text) > maxChangelog {
				return fmt.Errorf("%s: longer than %d MiB", h.Name, maxChangelog>>20)
			}
			return nil
		}
	})
	return text, err
}

// sourceDeb is the linux-source package of a version, from the store without
// asking the archive when it is there.
func (s *Store) sourceDeb(ctx context.Context, version string, rep progress.Reporter) (string, error) {
	file := debFileName(Deb{Name: "linux-source-*", Version: version, Arch: "all"})
	if have, err := filepath.Glob(filepath.Join(s.debs(), file)); err == nil && len(have) == 1 {
		return have[0], nil
	}
	p, err := findSource(ctx, version)
	if err != nil {
		return "", err
	}
	debs, err := Apt{}.Fetch(ctx, s.debs(), []Deb{p}, rep)
	return debs[p.Name], err
}
