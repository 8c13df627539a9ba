// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/ui"
)

type codeResult struct {
	Code   code.Code `json:"code"`
	Kind   code.Kind `json:"kind"`
	Title  string    `json:"title"`
	Remedy string    `json:"remedy"`
}

// Codes explains the codes of problems.
func (a *App) Codes() *cobra.Command {
	return &cobra.Command{
		Use:   "codes [CODE]...",
		Short: "List the codes of errors, refusals and risks, or explain some",
		Long: `codes lists every problem that Tsugi has a code for, with the usual way out.
Codes are stable: scripts may rely on them, not on the wording.`,
		Example: "  " + a.Name + " codes\n  " + a.Name + " codes TS1103",
		RunE: func(_ *cobra.Command, args []string) error {
			found, err := chooseCodes(args)
			if err != nil {
				return err
			}
			return a.Show("codes", found, func() string { return codesText(found, len(args) > 0) })
		},
	}
}

func chooseCodes(args []string) ([]codeResult, error) {
	var found []codeResult
	if len(args) == 0 {
		for _, e := range code.Catalogue() {
			found = append(found, codeResult(e))
		}
	}
	for _, arg := range args {
		e, ok := code.Lookup(code.Code(strings.ToUpper(arg)))
		if !ok {
			return nil, code.New("TS1904", arg, "")
		}
		found = append(found, codeResult(e))
	}
	return found, nil
}

func codesText(codes []codeResult, explain bool) string {
	if !explain {
		rows := make([][]string, len(codes))
		for i, c := range codes {
			rows[i] = []string{string(c.Code), string(c.Kind), c.Title}
		}
		return ui.Table(nil, rows)
	}
	var b strings.Builder
	for _, c := range codes {
		b.WriteString(ui.Bold(string(c.Code)) + "  " + c.Title + ui.Dim("  ("+string(c.Kind)+")") + "\n")
		b.WriteString("  " + ui.Dim("→") + " " + c.Remedy + "\n")
	}
	return b.String()
}
