// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Unpack writes all that the target's binary packages install below a directory,
// but what only people read.
func (t *Target) Unpack(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernel.DiskError(dir, err)
	}
	for _, p := range t.Packages {
		if !strings.HasSuffix(p.Name, ".deb") || strings.Contains(p.Name, "-dbg_") {
			continue
		}
		deb := filepath.Join(t.home, "userland", "debs", p.Name)
		if _, err := os.Stat(deb); err != nil {
			return code.New("TS3541", t.Name, p.Name).With(err)
		}
		task := progress.Discard.Start(p.Name, 0, progress.Steps)
		if err := kernel.UnpackDeb(ctx, deb, dir, installed, task); err != nil {
			return err
		}
	}
	return nil
}

// installed leaves out what no program reads.
func installed(name string) string {
	for _, dir := range []string{"doc", "man", "info", "locale", "lintian", "bug"} {
		if strings.HasPrefix(name, "usr/share/"+dir+"/") {
			return ""
		}
	}
	return name
}
