// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/survey"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// writeSurvey writes the files that were asked for.
func (a *app) writeSurvey(r *survey.Report, o surveyOptions) error {
	if o.json != "" {
		b, err := json.MarshalIndent(ui.Result{Schema: ui.Schema, Kind: "survey", Result: r}, "", "  ")
		if err != nil {
			return err
		}
		if err := command.WriteFile(o.json, append(b, '\n')); err != nil {
			return err
		}
	}
	if o.html == "" {
		return nil
	}
	b, err := r.HTML()
	if err != nil {
		return err
	}
	return command.WriteFile(o.html, b)
}
