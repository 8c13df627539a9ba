// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/server"
)

func newServeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `serve answers machines and operators until it is told to stop by SIGTERM or an
interrupt; then it lets go who waits, finishes the requests under way, gives
running builds back to the queue, and ends. A second signal ends it at once.

It logs to standard error: lines on a terminal, JSON elsewhere. Under systemd
it tells when it is ready and answers the watchdog.`,
		Example: "  tsugi-server serve\n  tsugi-server serve --dir /srv/tsugi --log-level debug",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serve(cmd) },
	}
	settings(cmd)
	return cmd
}

func (a *app) serve(cmd *cobra.Command) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	log := newLog(a.Streams.Stderr, c.Log)
	release, err := lockDir(c.Dir())
	if err != nil {
		return err
	}
	defer release()
	s, err := openService(cmd.Context(), c, log)
	if err != nil {
		return err
	}
	return errors.Join(s.serve(cmd.Context()), s.close())
}

// serve runs the server until ctx ends. Then everything is brought to an end
// in order: requests first, what they wrote last.
func (s *service) serve(ctx context.Context) error {
	if err := s.afterRestore(ctx); err != nil {
		return err
	}
	certs, err := openCertificates(s.config, s.log)
	if err != nil {
		return err
	}
	defer certs.close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	proxies, err := s.config.TrustedProxies()
	if err != nil {
		return err
	}
	couriers, err := openCouriers(s.config, s.sealing)
	if err != nil {
		return err
	}
	defer couriers.close()
	idps, err := providers(s.config)
	if err != nil {
		return err
	}
	srv, err := server.New(ctx, server.Options{
		Store: s.store, Blobs: s.blobs, Publish: s.publish, Jobs: s.queue, Log: s.log, Registry: registry,
		URL: s.config.URL, CA: certs.ca, Version: command.Build().Version, Interval: s.config.Interval, TrustedProxies: proxies,
		Notify: couriers.options,
		Key:    s.key, Providers: idps, Sessions: limitsOf(s.config), SignIns: server.Rate{Burst: s.config.SignIn.Failures, Every: s.config.SignIn.Every},
	})
	if err != nil {
		return err
	}
	listener, err := listen(s.config.Address(), "listen")
	if err != nil {
		return err
	}
	web := srv.HTTP()
	if certs.tls != nil {
		web.TLSConfig = certs.tls
	}
	var metrics *http.Server
	var metricsListener net.Listener
	if s.config.Metrics.Listen != "" {
		if metricsListener, err = listen(s.config.Metrics.Listen, "metrics.listen"); err != nil {
			return errors.Join(err, listener.Close())
		}
		metrics = metricsServer(registry, s.log)
		web.Handler = withoutMetrics(web.Handler)
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(ctx) })
	g.Go(func() error { return certs.run(ctx) })
	g.Go(func() error { return s.work(ctx) })
	g.Go(func() error { return serveHTTP(web, listener) })
	if metrics != nil {
		g.Go(func() error { return serveHTTP(metrics, metricsListener) })
	}
	g.Go(func() error { return s.watchdog(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		return s.shutdown(web, metrics)
	})
	s.log.Info("serving", "url", s.config.URL, "address", listener.Addr().String(), "database", s.store.Engine(),
		"storage", s.config.Storage.Kind, "tls", s.config.TLS.Mode, "workers", s.config.Workers.Count, "version", command.Build().Version)
	notify(s.log, daemon.SdNotifyReady)
	err = g.Wait()
	s.log.Info("stopped")
	return err
}

func listen(address, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		if e, ok := errors.AsType[*net.OpError](err); ok {
			err = e.Err
		}
		return nil, code.New("TS7807", key+" "+address, "").With(err)
	}
	return l, nil
}

func serveHTTP(s *http.Server, l net.Listener) error {
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdown ends the HTTP servers: no new requests, and the time of grace for
// those under way.
func (s *service) shutdown(servers ...*http.Server) error {
	notify(s.log, daemon.SdNotifyStopping)
	s.log.Info("stopping")
	s.queue.Close()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Grace)
	defer cancel()
	for _, web := range servers {
		if web == nil {
			continue
		}
		if err := web.Shutdown(ctx); err != nil {
			s.log.Warn("requests were cut off", "err", err)
			_ = web.Close() // it has nothing to say that Shutdown has not
		}
	}
	return nil
}

// withoutMetrics hides them where machines are served.
func withoutMetrics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// metricsServer shows the metrics to whoever can reach its address.
func metricsServer(r *prometheus.Registry, log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r}))
	return &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// watchdog tells systemd that the server lives, as long as it does.
func (s *service) watchdog(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			// A database that is away is no reason to restart: that would not
			// bring it back. What is looked at is that the process gets on.
			notify(s.log, daemon.SdNotifyWatchdog)
		}
	}
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be told", "state", state, "err", err)
	}
}

// instance names this directory among the servers of a shared database: the
// workers of an earlier process of it are known by that.
func (s *service) instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "server"
	}
	return fmt.Sprintf("%s:%s", host, filepath.Clean(s.config.Dir()))
}
