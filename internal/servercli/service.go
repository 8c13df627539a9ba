// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// service is the parts of a server that need no network of their own.
type service struct {
	config  *config.Config
	log     *slog.Logger
	store   *store.Store
	blobs   blob.Store
	publish *publish.Service
	queue   *jobs.Queue
	sealing []byte // the key of notify.go
	key     []byte // of package people
}

// openService opens what a configuration names.
func openService(ctx context.Context, c *config.Config, log *slog.Logger) (_ *service, err error) {
	s := &service{config: c, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	load := func() (publish.Keys, error) { return publish.LoadKeys(c.Path(c.Keys.Dir)) }
	keys, err := load()
	if err != nil {
		return nil, err
	}
	if s.sealing, err = sealingKey(keys.Identity); err != nil {
		return nil, err
	}
	if s.key, err = people.DeriveKey([]byte(keys.Identity.Secret())); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, c.DSN()); err != nil {
		return nil, err
	}
	if s.blobs, err = openBlobs(ctx, c); err != nil {
		return nil, err
	}
	if s.publish, err = publish.New(publish.Options{Store: s.store, Blobs: s.blobs, Keys: keys, Lifetimes: lifetimes(c), Reload: load, Log: log}); err != nil {
		return nil, err
	}
	s.queue = jobs.NewQueue(jobs.QueueOptions{Store: s.store, Blobs: s.blobs, Log: log, Publish: s.publishJob, Series: s.publish.Pushed, Lease: c.Workers.Lease, Attempts: c.Workers.Attempts})
	return s, nil
}

func (s *service) publishJob(ctx context.Context, p jobs.Publication) (string, error) {
	made, err := s.publish.Publish(ctx, publish.PublishRequest{
		Artifact: p.Artifact, Proof: p.Proof, Report: p.Report, Consoles: p.Consoles, Job: p.Job, Actor: p.Actor, Selection: p.Selection,
		Checks: []publish.Check{func(ctx context.Context, tx *store.Tx, tier string) error { return people.Alone(ctx, tx.Reader, tier) }},
	})
	switch code.Of(err) {
	case "TS7702", "TS7706": // the version is taken, or a higher one is there
		err = fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
	return made.ID, err
}

func (s *service) close() error {
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}

func lifetimes(c *config.Config) repo.Lifetimes { return repo.Lifetimes(c.Keys.Lifetimes) }

func openBlobs(ctx context.Context, c *config.Config) (blob.Store, error) {
	if c.Storage.Kind == "folder" {
		return blob.OpenFolder(c.Path(c.Storage.Folder))
	}
	secret, err := c.S3Secret()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Storage.S3.Endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return blob.OpenS3(ctx, blob.S3Config{
		Endpoint: u.Host, Bucket: c.Storage.S3.Bucket, Prefix: c.Storage.S3.Prefix, Region: c.Storage.S3.Region,
		AccessKey: c.Storage.S3.AccessKey, SecretKey: secret, Insecure: u.Scheme == "http",
	})
}
