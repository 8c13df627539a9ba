// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
)

// work runs the workers of this process.
func (s *service) work(ctx context.Context) error {
	if s.config.Workers.Count == 0 {
		<-ctx.Done()
		return nil
	}
	// The directory is locked: whoever worked for it before is gone.
	prefix := s.instance() + "/"
	if err := s.queue.Expire(ctx, func(worker string) bool { return strings.HasPrefix(worker, prefix) }); err != nil {
		s.log.Warn("jobs of an earlier process wait for the end of their leases", "err", err)
	}
	w := s.config.Workers
	err := runWorkers(ctx, workers{
		backend: s.queue, name: prefix, count: w.Count, log: s.log,
		pipeline: jobs.PipelineOptions{Home: s.config.Path(w.Home), Jobs: w.Jobs, Builder: command.Maker(), SignKey: signKeys(s.config)},
	})
	if err != nil {
		// A server without a place to build in still serves.
		s.log.Error("no builds in this process", "err", err)
		<-ctx.Done()
	}
	return nil
}

func signKeys(c *config.Config) []string {
	var files []string
	for _, f := range c.Workers.SignKeys() {
		files = append(files, c.Path(f))
	}
	return files
}

// workers are what a process works with.
type workers struct {
	backend  jobs.Backend
	pipeline jobs.PipelineOptions
	name     string // prefix; what follows is unique
	count    int
	log      *slog.Logger
}

func runWorkers(ctx context.Context, w workers) error {
	executor, err := jobs.NewPipeline(w.pipeline)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range w.count {
		name := fmt.Sprintf("%s%d-%s", w.name, i+1, uuid.NewString()[:8])
		worker := jobs.NewWorker(jobs.WorkerOptions{Backend: w.backend, Executor: executor, Name: name, Log: w.log.With("worker", name)})
		g.Go(func() error { return worker.Run(ctx) })
	}
	return g.Wait()
}

// workerOptions are the flags of worker.
type workerOptions struct {
	server, tokenFile, ca, digest string
	home                          string
	count, jobs                   int
	signKey, signCert             string
	log                           config.Log
}

func newWorkerCommand(a *app) *cobra.Command {
	o := workerOptions{log: config.Default().Log}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Build and prove live patches for a server on another host",
		Long: `worker takes build jobs from a server, as many at a time as asked, and hands in
what it made. It needs what tsugictl build and prove need, and a token of the
role worker: tsugi-server operator new NAME --role worker.

Workers share compiled objects through the server when their --home is the same
path on each host. One that is stopped gives its job back; the job of one
that is killed is taken up by another within a minute.

It needs no directory of a server and no configuration.`,
		Example: `  tsugi-server worker --server https://patches.example.org:8443 \
    --ca-sha256 3f9a… --token-file /etc/tsugi/worker.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.worker(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "URL of the server (needed)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the worker's token (needed)")
	f.StringVar(&o.ca, "ca", "", "PEM file with the certificate of the server's CA")
	f.StringVar(&o.digest, "ca-sha256", "", "SHA-256 of the CA certificate, in hex, as tsugi-server ca show tells it")
	f.StringVar(&o.home, "home", filepath.Join(defaultDir, "worker"), "directory of kernels, sources and objects")
	f.IntVar(&o.count, "count", 1, "jobs at a time")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "compilers at a time of each job (default one per processor)")
	f.StringVar(&o.signKey, "sign-key", "", "PEM file with the key, and perhaps the certificate, to sign modules with")
	f.StringVar(&o.signCert, "sign-cert", "", "certificate of the key, PEM or DER")
	f.StringVar(&o.log.Level, "log-level", o.log.Level, "debug, info, warn or error")
	f.StringVar(&o.log.Format, "log-format", o.log.Format, "auto, json or text")
	return cmd
}

func (a *app) worker(ctx context.Context, o workerOptions) error {
	bad := func(why string) error { return command.Usage(program+" worker", why) }
	var level slog.Level
	switch {
	case o.server == "" || o.tokenFile == "":
		return bad("--server and --token-file are needed")
	case o.ca != "" && o.digest != "":
		return bad("--ca and --ca-sha256 exclude each other")
	case o.count < 1 || o.count > 64:
		return bad("--count is not from 1 to 64")
	case o.signKey == "" && o.signCert != "":
		return bad("--sign-cert needs --sign-key")
	case level.UnmarshalText([]byte(o.log.Level)) != nil:
		return bad("--log-level " + o.log.Level + " is none of debug, info, warn, error")
	}
	token, err := a.ReadFile(o.tokenFile)
	if err != nil {
		return err
	}
	secret := strings.TrimSpace(string(token))
	if kind, ok := api.CredentialKindOf(secret); !ok || kind != api.WorkerCredential {
		return bad(o.tokenFile + " holds no worker's token: make one with tsugi-server operator new NAME --role worker")
	}
	ca, err := a.serverCA(ctx, o)
	if err != nil {
		return err
	}
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: ca})
	if err != nil {
		return err
	}
	c, err := client.New(client.Options{URL: o.server, Credential: secret, HTTP: httpc, UserAgent: command.Maker()})
	if err != nil {
		return err
	}
	log := newLog(a.Streams.Stderr, o.log)
	host, err := os.Hostname()
	if err != nil {
		host = "worker"
	}
	home, err := filepath.Abs(o.home)
	if err != nil {
		return err
	}
	log.Info("working", "server", o.server, "home", home, "jobs", o.count)
	notify(log, daemon.SdNotifyReady)
	return diskProblem(home, runWorkers(ctx, workers{
		backend: c, name: fmt.Sprintf("%s:%d/", host, os.Getpid()), count: o.count, log: log,
		pipeline: jobs.PipelineOptions{
			Home: home, Jobs: o.jobs, Builder: command.Maker(), SignKey: config.Workers{SignKey: o.signKey, SignCert: o.signCert}.SignKeys(),
		},
	}))
}

// serverCA is the authority to trust; nil: the system's.
func (a *app) serverCA(ctx context.Context, o workerOptions) ([]byte, error) {
	switch {
	case o.ca != "":
		return a.ReadFile(o.ca)
	case o.digest != "":
		return client.FetchCA(ctx, o.server, o.digest, "")
	}
	return nil, nil
}
