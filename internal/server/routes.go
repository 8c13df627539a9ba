// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/console"
	"github.com/tsugi-project/tsugi/internal/people"
)

// levelAccess is the level of the line that each request gets.
const levelAccess = slog.LevelDebug

func attr(key, value string) slog.Attr { return slog.String(key, value) }

// routes is the table of all that is answered. The operations of operators and
// workers are registered with huma (operations.go); those here are asked for
// often, or are no JSON.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", s.metricsPage())
	mux.HandleFunc("GET /tuf/metadata/{file}", s.tufMetadata)
	mux.HandleFunc("GET /tuf/targets/{path...}", s.tufTarget)
	mux.HandleFunc("GET /v1/ca.pem", s.ca)
	mux.HandleFunc("GET /v1/root.json", s.root)
	mux.HandleFunc("POST /v1/enroll", s.enroll)
	mux.HandleFunc("POST /v1/machine/check-in", s.checkIn)
	mux.HandleFunc("GET /v1/machine/wait", s.wait)
	mux.HandleFunc("POST /v1/machine/reports", s.reports)
	mux.HandleFunc("DELETE /v1/machine", s.unenroll)

	mux.HandleFunc("POST /v1/livepatches", s.withOperator("publish-livepatch", s.publishLivePatch))
	mux.HandleFunc("POST /v1/updates", s.withOperator("push-update", s.pushUpdate))
	mux.HandleFunc("GET /v1/worker/updates/{digest}", s.withOperator("worker-update", s.workerUpdate))
	mux.HandleFunc("GET /v1/bundle", s.withOperator("bundle", s.bundle))
	mux.HandleFunc("POST /v1/trust/root", s.withOperator("import-root", s.importRoot))
	mux.HandleFunc("GET /v1/events", s.withScope("events", s.events))
	mux.HandleFunc("GET /v1/jobs/{id}/artifact", s.withOperator("job-artifact", s.jobArtifact))
	mux.HandleFunc("PUT /v1/worker/jobs/{id}/files/{name}", s.withOperator("put-job-file", s.putJobFile))
	mux.HandleFunc("GET /v1/worker/jobs/{id}/previous", s.withOperator("job-previous", s.previous))
	mux.HandleFunc("GET /v1/worker/cache/{key}", s.withOperator("cache-get", s.cacheGet))
	mux.HandleFunc("PUT /v1/worker/cache/{key}", s.withOperator("cache-put", s.cachePut))

	mux.HandleFunc("GET /v1/sign-in/oidc/{provider}", s.withOperator("sign-in-oidc-begin", s.beginOIDC))
	mux.HandleFunc("GET "+people.CallbackPath, s.withOperator("sign-in-oidc-finish", s.finishOIDC))

	mux.Handle("GET "+console.Prefix, s.console)
	mux.Handle("GET /console", http.RedirectHandler(console.Prefix, http.StatusSeeOther))
	mux.Handle("GET /{$}", http.RedirectHandler(console.Prefix, http.StatusSeeOther))

	o := s.newAPI(mux)
	s.adminOperations(o)
	s.signInOperations(o)
	s.accountOperations(o)
	s.userOperations(o)
	s.approvalOperations(o)
	s.machineOperations(o)
	s.fleetOperations(o)
	s.overviewOperations(o)
	s.notifyOperations(o)
	s.livePatchOperations(o)
	s.contentsOperations(o)
	s.cveOperations(o)
	s.targetOperations(o)
	s.systemOperations(o)
	s.rolloutOperations(o)
	s.policyOperations(o)
	s.updateOperations(o)
	s.jobOperations(o)
	s.workerOperations(o)
	s.document(o, mux)
	return s.outer(mux)
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// staleFeed is when a server that can't read the change feed must not answer
// machines any more: what it says may be wrong by then.
const staleFeed = 30 * time.Second

// readyz says that it can do its work: a balancer sends machines elsewhere if
// not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		s.writeFault(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ready\n"))
}

func (s *Server) ready(ctx context.Context) error {
	select {
	case <-s.closing:
		return refuse("TS7610", "", "it is shutting down")
	default:
	}
	if err := s.store.Ping(ctx); err != nil {
		return faultOf(code.New("TS7610", "", "the database does not answer").With(err), 0)
	}
	if age := s.now().Sub(time.UnixMilli(s.feedRead.Load())); age > staleFeed {
		return refuse("TS7610", "", "the change feed was last read "+age.Round(time.Second).String()+" ago")
	}
	if _, err := s.blobs.Stat(ctx, "tuf/metadata/timestamp.json"); err != nil {
		return faultOf(code.New("TS7610", "", "the TUF metadata cannot be read").With(err), 0)
	}
	return nil
}
