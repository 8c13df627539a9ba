// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/tsugi-project/tsugi/internal/api"
)

// operations registers what huma serves: it decodes, checks every field by
// the tags of package api, and writes docs/openapi.yaml from the same types.
type operations struct {
	server *Server
	api    huma.API
}

func (s *Server) newAPI(mux *http.ServeMux) *operations {
	c := huma.DefaultConfig("Tsugi", "1")
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // huma makes the document while it is asked for it, in a race
	c.CreateHooks = nil                                   // no $schema in answers
	c.Formats = map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat}
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{transformFault}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	describe(c.OpenAPI)
	a := humago.New(mux, c)
	a.UseMiddleware(s.authorise)
	return &operations{server: s, api: a}
}

// schemaName keeps huma's own types out of the way of ours.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.PkgPath() == reflect.TypeFor[huma.ErrorModel]().PkgPath() {
		return "Huma" + name
	}
	return name
}

// body is an answer with a body.
type body[T any] struct{ Body T }

// none is an input without parameters.
type none struct{}

// byID is an input that names one thing.
type byID struct {
	ID string `path:"id" maxLength:"255"`
}

// Page is the part of an input that asks for one page of a list. Its name is
// in upper case because huma looks only into what is exported.
type Page struct {
	After string `query:"after" maxLength:"255" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

// op is an operation's line in the API.
type op struct {
	id, method, path, summary string
	may                       permission
	wait                      time.Duration // longer than other operations
	limit                     int64         // bytes of the body; 0: api.MaxBody
	status                    int           // of success; 0: 200
	tag                       string        // in the document; "": by may
	scoped                    bool          // it tells groups apart: the caller may be for some of them alone
}

func (o op) operation() huma.Operation {
	h := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, DefaultStatus: o.status,
		MaxBodyBytes: api.MaxBody, Metadata: map[string]any{"scoped": o.scoped}, Tags: []string{cmp.Or(o.tag, tagOf(o.may))},
		Security: []map[string][]string{{"operator": {}}, {"session": {}}}, BodyReadTimeout: 20 * time.Second,
	}
	if o.limit > 0 {
		h.MaxBodyBytes = o.limit
	}
	if o.tag == "public" {
		h.Security = nil
	}
	if o.wait > 0 {
		h.Metadata["wait"] = o.wait
	}
	return h
}

func tagOf(p permission) string {
	if p == work {
		return "workers"
	}
	return "operators"
}

// answer registers an operation with a body in its answer. What changes
// something is in this server's memory before it is answered.
func answer[I, O any](o *operations, line op, h func(context.Context, operator, *I) (O, error)) {
	huma.Register(o.api, line.operation(), func(ctx context.Context, in *I) (*body[O], error) {
		out, err := h(ctx, who(ctx), in)
		if line.may == change {
			o.server.settle(ctx)
		}
		if err != nil {
			return nil, o.server.fail(ctx, line, err)
		}
		return &body[O]{Body: out}, nil
	})
}

// quiet registers an operation that answers 204.
func quiet[I any](o *operations, line op, h func(context.Context, operator, *I) error) {
	line.status = http.StatusNoContent
	huma.Register(o.api, line.operation(), func(ctx context.Context, in *I) (*struct{}, error) {
		err := h(ctx, who(ctx), in)
		if line.may == change {
			o.server.settle(ctx)
		}
		if err != nil {
			return nil, o.server.fail(ctx, line, err)
		}
		return nil, nil
	})
}

func who(ctx context.Context) operator {
	o, _ := ctx.Value(operatorKey{}).(operator)
	return o
}

func (s *Server) fail(ctx context.Context, line op, err error) error {
	s.countStranger(who(ctx), err)
	f := toFault(err)
	s.logFault(ctx, line.method, line.path, f)
	return f
}

// listOf is a page of a list: never null, and with the name of the next one
// when there may be one.
func listOf[T any](items []T, limit int, name func(T) string) api.List[T] {
	if items == nil {
		items = []T{}
	}
	l := api.List[T]{Items: items}
	if limit > 0 && len(items) >= limit {
		l.Next = name(items[len(items)-1])
	}
	return l
}

// leaseOperation answers 204 when no job came.
func (s *Server) leaseOperation(o *operations) {
	line := op{id: "lease-job", method: "POST", path: "/v1/worker/lease", summary: "Take a job, or wait for one; 204: none came", may: work, wait: jobWait}
	huma.Register(o.api, line.operation(), func(ctx context.Context, in *leaseInput) (*leaseOutput, error) {
		l, err := s.jobs.Lease(ctx, worker(who(ctx), in.Body.Worker), s.waitOf(in.Body.Wait))
		switch {
		case err != nil:
			return nil, s.fail(ctx, line, err)
		case l == nil:
			return &leaseOutput{Status: http.StatusNoContent}, nil
		}
		return &leaseOutput{Status: http.StatusOK, Body: l}, nil
	})
}
