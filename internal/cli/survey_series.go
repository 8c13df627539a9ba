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

// surveyed is the series to survey: an update, or what a person named.
func (a *app) surveyed(ctx context.Context, store *kernel.Store, t *kernel.Target, args []string, o surveyOptions) (*series.Series, error) {
	if o.to == "" {
		return a.filesSeries(args)
	}
	if o.from != "" && o.from != t.SourceVersion { // before sources are fetched for nothing
		return nil, survey.OtherSource(t, o.from)
	}
	c, err := catalogue.Open(cmp.Or(o.catalogue, filepath.Join(store.Home(), "catalogue")))
	if err != nil {
		return nil, err
	}
	return c.Update(ctx, store, t.SourceVersion, o.to, a.Progress())
}

// knownFacts are the verdicts of surveys that were made of a series before, by
// this very program; none is no error, for a build finds out by itself. What
// fixes were found to need is written into the series.
func knownFacts(store *kernel.Store, t *kernel.Target, s *series.Series) (*survey.Facts, error) {
	engine, err := engineDigest()
	if err != nil {
		return nil, err
	}
	f, err := survey.Known(survey.Request{Target: t, Series: s, Dir: surveysDir(store), Engine: engine})
	if err != nil {
		return nil, err
	}
	f.Join(s)
	return f, nil
}

// surveysDir is where verdicts are kept.
func surveysDir(store *kernel.Store) string { return filepath.Join(store.Home(), "surveys") }
