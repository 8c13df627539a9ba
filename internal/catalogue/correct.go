// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/update"
)

// fileName names an update on disk. Versions of Debian packages hold letters,
// digits and . + ~ - : (deb-version(7)).
func fileName(from, to string) string {
	return strings.NewReplacer("/", "%2f", ":", "%3a").Replace(from + "_" + to)
}

func (c *Catalogue) correctionsPath(from, to string) string {
	return filepath.Join(c.dir, "updates", fileName(from, to)+".yaml")
}

// corrections reads what is corrected of an update, with its text.
func (c *Catalogue) corrections(from, to string) (*update.Corrections, []byte, error) {
	x := &update.Corrections{From: from, To: to}
	path := c.correctionsPath(from, to)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err := series.DecodeYAML(path, text, x); err != nil {
		return nil, nil, err
	}
	return x, text, x.Check(path)
}

// Correct changes the corrections of an update. change gets those that are
// there; when it returns an error nothing is written.
func (c *Catalogue) Correct(ctx context.Context, from, to string, change func(*update.Corrections) error) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, _, err := c.corrections(from, to)
	if err != nil {
		return err
	}
	if err := change(x); err != nil {
		return err
	}
	x.From, x.To = from, to
	for id, f := range x.Fixes {
		if f.Empty() {
			delete(x.Fixes, id)
		}
	}
	slices.SortFunc(x.Entries, func(a, b update.Attribution) int { return strings.Compare(a.Subject, b.Subject) })
	path := c.correctionsPath(from, to)
	if err := x.Check(path); err != nil {
		return err
	}
	text, err := series.EncodeYAML(x)
	if err != nil {
		return err
	}
	return writeFile(path, text)
}
