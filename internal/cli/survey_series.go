// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/survey"
)

// surveyed is the series to survey: an update, one of the catalogue, or what a
// person named.
func (a *app) surveyed(ctx context.Context, store *kernel.Store, t *kernel.Target, args []string, o surveyOptions) (*series.Series, error) {
	if o.to == "" && o.series == "" {
		return a.readSeries(args)
	}
	if o.to != "" && o.from != "" && o.from != t.SourceVersion { // before sources are fetched for nothing
		return nil, survey.OtherSource(t, o.from)
	}
	c, err := catalogue.Open(cmp.Or(o.catalogue, filepath.Join(store.Home(), "catalogue")))
	if err != nil {
		return nil, err
	}
	if o.series != "" {
		return c.Series(o.series)
	}
	return c.Update(ctx, store, t.SourceVersion, o.to, a.Progress())
}

// knownFacts are the verdicts of surveys that were made of a series before, by
// this very program; none is no error, for a build finds out by itself.
func knownFacts(store *kernel.Store, t *kernel.Target, s *series.Series) (*survey.Facts, error) {
	engine, err := engineDigest()
	if err != nil {
		return nil, err
	}
	return survey.Known(survey.Request{Target: t, Series: s, Dir: surveysDir(store), Engine: engine})
}

// surveysDir is where verdicts are kept.
func surveysDir(store *kernel.Store) string { return filepath.Join(store.Home(), "surveys") }
