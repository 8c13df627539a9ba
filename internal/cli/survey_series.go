// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
)

func (a *app) surveyed(_ context.Context, _ *kernel.Store, _ *kernel.Target, args []string, _ surveyOptions) (*series.Series, error) {
	return a.filesSeries(args)
}
