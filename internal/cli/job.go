// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

func newJobCommand(a *app) *cobra.Command {
	return command.Parent("job", "The builds that the server's workers do",
		`tsugictl build --server queues a build. A worker takes it, and another one if
that worker dies.`,
		newJobLsCommand(a), newJobShowCommand(a), newJobLogCommand(a), newJobCancelCommand(a))
}

func newJobLsCommand(a *app) *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the builds, the newest first",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "jobs", func(c *client.Client, after string) (*api.List[api.Job], error) {
				return c.Jobs(cmd.Context(), api.JobState(state), after, 0)
			}, func(all []api.Job) string {
				rows := make([][]string, len(all))
				for i, j := range all {
					rows[i] = []string{j.ID, j.Target, j.Title, jobState(&j), jobVerdict(&j), j.Stage, j.Worker, when(j.Created)}
				}
				return ui.Table([]string{"job", "target", "title", "state", "verdict", "stage", "worker", "created"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only queued, running, done, failed or cancelled ones")
	return cmd
}

func newJobShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show JOB",
		Short: "Show a build",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "job", func(c *client.Client) (*api.Job, error) {
				return c.Job(cmd.Context(), args[0])
			}, jobText)
		},
	}
}

// jobState is how a build stands; one that is cancelled runs on until its
// worker hears of it.
func jobState(j *api.Job) string {
	if j.Cancelling {
		return string(j.State) + ", being cancelled"
	}
	return string(j.State)
}

// jobVerdict is the verdict in the words of what the job is for: no reboot helps a
// package, and none is needed.
func jobVerdict(j *api.Job) string {
	if j.Verdict == verdictReboot && userland.IsName(j.Target) {
		return "restart needed"
	}
	return j.Verdict
}

func jobText(j *api.Job) string {
	attempt := ""
	if j.Attempt > 1 {
		attempt = fmt.Sprintf("number %d: the worker before it was lost", j.Attempt)
	}
	took := ""
	if j.Started != 0 && j.Ended != 0 {
		took = ui.Span(time.Duration(j.Ended-j.Started) * time.Millisecond)
	}
	text := ui.Pairs(
		[2]string{"job", j.ID},
		[2]string{"target", j.Target},
		[2]string{"title", j.Title},
		[2]string{"state", jobState(j)},
		[2]string{"stage", j.Stage},
		[2]string{"verdict", jobVerdict(j)},
		[2]string{"attempt", attempt},
		[2]string{"worker", j.Worker},
		[2]string{"created", when(j.Created)},
		[2]string{"took", took},
		[2]string{"live patch", j.Patch},
		[2]string{"for policies", strings.Join(j.Policies, ", ")},
		[2]string{"accepted", strings.Join(j.Accept, ", ")},
	)
	if len(j.Omitted) > 0 {
		text += "\nleft out by the build:\n" + notTakenTable(j.Omitted)
	}
	if j.Problem != nil {
		text += "\n" + told(j.Problem) + "\n"
	}
	return text
}

func newJobLogCommand(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "log JOB",
		Short: "Print what a build said",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			_, err = a.followJob(cmd.Context(), c, args[0], follow, func(text string) error { return a.Term.Raw([]byte(text)) })
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the build ends")
	return cmd
}

// followJob hands on what a build says until it has ended, or, without follow,
// until there is no more.
func (a *app) followJob(ctx context.Context, c *client.Client, id string, follow bool, say func(string) error) (*api.Job, error) {
	wait := 0
	if follow {
		wait = 20
	}
	for after := int64(0); ; {
		// The state is asked first: what was said before the end is in the log then.
		j, err := c.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		ended := j.Ended != 0
		if ended {
			wait = 0
		}
		l, err := c.JobLog(ctx, id, after, wait)
		if err != nil {
			return nil, err
		}
		for _, chunk := range l.Items {
			if err := say(chunk.Text); err != nil {
				return nil, err
			}
			after = max(after, chunk.Seq)
		}
		if (ended || !follow) && len(l.Items) == 0 {
			return j, nil
		}
	}
}

func newJobCancelCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel JOB...",
		Short: "Stop builds",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "cancelled", args, func(c *client.Client, ctx context.Context, id string) error {
				_, err := c.CancelJob(ctx, id)
				return err
			})
		},
	}
}

// buildOnServer queues the fixes as a job, follows its log, and ends as the
// same build on this computer would.
func (a *app) buildOnServer(ctx context.Context, paths []string, o buildOptions) error {
	c, err := a.server()
	if err != nil {
		return err
	}
	req := api.NewJob{Target: o.target, Name: o.name, Prove: o.prove || o.publish, Publish: o.publish, Accept: o.accept}
	for _, p := range paths {
		f, err := a.readFix(p)
		if err != nil {
			return err
		}
		req.Fixes = append(req.Fixes, api.JobDiff{ID: f.ID, Title: f.Title, CVEs: f.CVEs, Diff: string(f.Raw)})
	}
	if o.reproducer != "" {
		b, err := a.ReadFile(o.reproducer)
		if err != nil {
			return err
		}
		req.Repro = string(b)
	}
	j, err := c.CreateJob(ctx, req)
	if err != nil {
		return err
	}
	a.Term.Say("job %s", j.ID)
	j, err = a.followJob(ctx, c, j.ID, true, func(text string) error {
		a.Term.Say("%s", strings.TrimRight(text, "\n"))
		return nil
	})
	if err != nil {
		return err
	}
	if j.State == api.JobDone && j.Verdict == string(builder.Live) && o.output != "" {
		b, err := c.JobArtifact(ctx, j.ID)
		if err != nil {
			return err
		}
		if err := command.WriteFile(o.output, b); err != nil {
			return err
		}
	}
	if err := a.Show("job", j, func() string { return jobText(j) }); err != nil {
		return err
	}
	return jobOutcome(j)
}

// jobOutcome is how a command ends that waited for a build.
func jobOutcome(j *api.Job) error {
	switch {
	case j.State == api.JobFailed && j.Problem != nil:
		return command.Outcome(command.Failed)
	case j.State != api.JobDone:
		return code.New("TS7616", j.ID, string(j.State))
	}
	return outcome(j.Verdict)
}
