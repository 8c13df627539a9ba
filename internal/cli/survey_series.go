// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
)

// surveyed is the series to survey: an update, or what a person named.
func (a *app) surveyed(ctx context.Context, store *kernel.Store, t *kernel.Target, args []string, o surveyOptions) (*series.Series, error) {
	if o.to == "" {
		return a.filesSeries(args)
	}
	c, err := catalogue.Open(cmp.Or(o.catalogue, filepath.Join(store.Home(), "catalogue")))
	if err != nil {
		return nil, err
	}
	return c.Update(ctx, store, cmp.Or(o.from, t.SourceVersion), o.to, a.Progress())
}
