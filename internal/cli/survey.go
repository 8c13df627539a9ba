// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/survey"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// surveyOptions are the flags of survey.
type surveyOptions struct {
	target     string
	from, to   string
	series     string
	html       string
	json       string
	jobs       int
	maxObjects int
	all        bool
	known      bool
	catalogue  string
}

func newSurveyCommand(a *app) *cobra.Command {
	var o surveyOptions
	cmd := &cobra.Command{
		Use:   "survey [DIFF|DIRECTORY]...",
		Short: "Say of every fix and CVE of an update whether it can be live",
		Long: `survey walks the fixes of a distribution's update, of a series of the
catalogue, or of the diffs and directories of fixes that are named, and judges
each one as build would: live, reboot (with the reason) or not affected. It
groups them by CVE and counts the reasons.

Surveys are for kernels. Of a package, tsugictl build --update says the same of
what it leaves out.

Verdicts are kept: a survey that was interrupted goes on where it was, and a
repeated one takes seconds. After an update of Tsugi they are found again, from
objects that were compiled before.`,
		Example: `  tsugictl survey --from 6.1.190-1 --to 6.1.192-1 --target debian:6.1.0-54-amd64
  tsugictl survey --to 6.1.192-1 -t debian:6.1.0-54-amd64 --html survey.html
  tsugictl survey --series stable -t debian:6.1.0-54-amd64
  tsugictl survey fixes/ -t debian:6.1.0-54-amd64 --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.survey(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.target, "target", "t", "", "kernel to survey for, as target ls names it (needed)")
	f.StringVar(&o.from, "from", "", "source version that the update begins at (default the target's)")
	f.StringVar(&o.to, "to", "", "source version that the update ends at")
	f.StringVar(&o.to, "update", "", "the same as --to, as build and fix have it")
	f.StringVar(&o.series, "series", "", "a series of the catalogue")
	cmd.MarkFlagsMutuallyExclusive("to", "update", "series")
	f.StringVar(&o.catalogue, "catalogue", "", "directory of the catalogue of fixes (default catalogue below the home)")
	f.StringVar(&o.html, "html", "", "write the report as a page of its own to this file")
	f.StringVar(&o.json, "json-file", "", "write the report as JSON to this file")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "fixes and compilers at a time (default one per processor)")
	f.IntVar(&o.maxObjects, "max-objects", 0, "objects that one fix may reach (default 500)")
	f.BoolVar(&o.known, "known", false, "judge nothing: report what is known by now, also while a survey runs")
	f.BoolVar(&o.all, "all", false, "list every fix, not only what is not live")
	must(cmd.RegisterFlagCompletionFunc("target", a.completeTargets))
	return cmd
}

func (a *app) survey(ctx context.Context, args []string, o surveyOptions) error {
	switch {
	case o.target == "":
		return command.Usage(program+" survey", "--target is needed")
	case o.to == "" && o.series == "" && len(args) == 0:
		return command.Usage(program+" survey", "--to, --series, or diffs to survey, are needed")
	case (o.to != "" || o.series != "") && len(args) > 0:
		return command.Usage(program+" survey", "--to, --series and diffs exclude each other")
	case userland.IsName(o.target):
		return command.Usage(program+" survey", "surveys are for kernels: of a package, tsugictl build judges all fixes of a directory or --update and says why some can't be live")
	}
	if err := command.CheckOutput(o.html, o.json); err != nil {
		return err
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	req := survey.Request{Dir: surveysDir(store), Made: time.Now().Format(time.DateOnly), Jobs: o.jobs, MaxObjects: o.maxObjects, Known: o.known}
	if req.Target, err = store.Get(o.target); err != nil {
		return err
	}
	if req.Engine, err = engineDigest(); err != nil {
		return err
	}
	if req.Series, err = a.surveyed(ctx, store, req.Target, args, o); err != nil {
		return err
	}
	r, err := survey.Run(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	if err := a.writeSurvey(r, o); err != nil {
		return err
	}
	return a.Show("survey", r, func() string { return surveyText(r, o.all) })
}

// engineDigest names this very program: what it found holds for itself only.
func engineDigest() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
