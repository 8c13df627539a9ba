// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/people"
)

// describe writes the head of the document.
func describe(d *huma.OpenAPI) {
	d.Info.Description = "The API of a tsugi-server: machines enrol, check in, wait and report; operators decide; build workers take jobs; " +
		"and the files of TUF are there for everybody. All times are milliseconds since 1970 UTC. Errors are problem+json with the code of the problem."
	d.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	d.Tags = []*huma.Tag{
		{Name: "public", Description: "What anybody may ask"},
		{Name: "machines", Description: "For enrolled machines, with the credential that enrolment gave them"},
		{Name: "operators", Description: "For people and programs with a role"},
		{Name: "people", Description: "Users, their sessions and keys, and what needs a second person"},
		{Name: "workers", Description: "For build workers: role worker"},
	}
	d.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"machine":  {Type: "http", Scheme: "bearer", Description: "tsm_…, from enrolment"},
		"operator": {Type: "http", Scheme: "bearer", Description: "tso_…, the API key of a person or a program, or tsw_… of a worker"},
		"session":  {Type: "apiKey", In: "cookie", Name: api.SessionCookie, Description: "a session of the console; what changes something is taken from its own pages only"},
	}
}

// plain describes an operation that huma does not serve.
type plain struct {
	method, path, id, summary, tag string
	security                       string
	in                             reflect.Type // JSON; nil: none
	inKind                         string       // a body that is no JSON
	out                            reflect.Type // JSON; nil: none
	outKind                        string       // an answer that is no JSON, or JSON in something
	status                         string       // of success; "": 200
	others                         map[string]string
	params                         []*huma.Param
}

func param(in, name, what string, required bool) *huma.Param {
	return &huma.Param{Name: name, In: in, Description: what, Required: required, Schema: &huma.Schema{Type: huma.TypeString}}
}

func plains() []plain {
	const bytes = "application/octet-stream"
	id := param("path", "id", "", true)
	return []plain{
		{method: "GET", path: "/healthz", id: "health", summary: "The process answers", tag: "public", outKind: "text/plain"},
		{method: "GET", path: "/readyz", id: "ready", summary: "The server can do its work", tag: "public", outKind: "text/plain"},
		{method: "GET", path: "/metrics", id: "metrics", summary: "Metrics for Prometheus", tag: "public", outKind: "text/plain"},
		{method: "GET", path: "/tuf/metadata/{file}", id: "tuf-metadata", summary: "A metadata file of TUF", tag: "public", outKind: "application/json", params: []*huma.Param{param("path", "file", "", true)}},
		{method: "GET", path: "/tuf/targets/{path}", id: "tuf-target", summary: "A target file of TUF, by the path that the metadata gives, slashes included; ranges are served", tag: "public", outKind: bytes, params: []*huma.Param{param("path", "path", "", true)}},
		{method: "GET", path: "/v1/ca.pem", id: "ca", summary: "The CA that the server's certificate comes from", tag: "public", outKind: "application/x-pem-file"},
		{method: "GET", path: "/v1/root.json", id: "root", summary: "The first TUF root, which machines pin", tag: "public", outKind: "application/json"},

		{method: "POST", path: "/v1/enroll", id: "enroll", summary: "Make a machine known, by a token", tag: "public", in: reflect.TypeFor[api.EnrollRequest](), out: reflect.TypeFor[api.EnrollAnswer]()},
		{method: "POST", path: "/v1/machine/check-in", id: "check-in", summary: "Say what the machine is and ask what it should have", tag: "machines", security: "machine", in: reflect.TypeFor[api.CheckIn](), out: reflect.TypeFor[api.Assignment](), others: map[string]string{"304": "The answer with the ETag of If-None-Match still holds"}, params: []*huma.Param{param("header", "If-None-Match", "ETag of the last answer", false)}},
		{method: "GET", path: "/v1/machine/wait", id: "wait", summary: "Wait until the answer to a check-in changes", tag: "machines", security: "machine", status: "204", others: map[string]string{"304": "Nothing changed within the time", "503": "Too many wait: check in at the interval"}, params: []*huma.Param{param("query", "etag", "of the last answer", true), {Name: "timeout", In: "query", Description: "seconds", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: number(1), Maximum: number(300), Default: 60}}}},
		{method: "POST", path: "/v1/machine/reports", id: "report", summary: "Deliver reports; what is named in the answer is stored", tag: "machines", security: "machine", in: reflect.TypeFor[api.Reports](), out: reflect.TypeFor[api.ReportsAnswer]()},
		{method: "DELETE", path: "/v1/machine", id: "unenroll", summary: "End this machine's enrolment", tag: "machines", security: "machine", status: "204"},

		{method: "POST", path: "/v1/livepatches", id: "publish-livepatch", summary: "Publish a live patch: a form with the parts artifact (.tsugi), proof and report", tag: "operators", security: "operator", inKind: "multipart/form-data", out: reflect.TypeFor[api.LivePatch](), status: "201", params: []*huma.Param{param("query", "tier", "the first if empty", false), param("query", "policy", "whose machines it is for; may be repeated; none: every policy that excludes nothing of it", false)}},
		{method: "POST", path: "/v1/updates", id: "push-update", summary: "Push the fixes for a target, in the place of what was there under the name: JSON that tsugictl update push makes", tag: "operators", security: "operator", inKind: "application/json", out: reflect.TypeFor[api.Update](), status: "201", params: []*huma.Param{param("query", "name", "of the series: a-z, 0-9, dot, dash and underscore", true), param("query", "extra", "true: only policies that name it take it", false)}},
		{method: "GET", path: "/v1/bundle", id: "bundle", summary: "Live patches, metadata and keys for machines without a network", tag: "operators", security: "operator", outKind: "application/x-tar", params: []*huma.Param{param("query", "tier", "", true), param("query", "id", "of a live patch; may be repeated; none: all of the tier", false), param("query", "machine", "id; may be repeated; none: all of the tier", false)}},
		{method: "POST", path: "/v1/trust/root", id: "import-root", summary: "Take in the next TUF root, signed by people", tag: "operators", security: "operator", inKind: "application/json", out: reflect.TypeFor[api.Trust](), params: []*huma.Param{param("query", "approval", "of another person, where one is needed", false)}},
		{method: "GET", path: "/v1/events", id: "events", summary: "What changes, as it changes: server-sent events named changed, with JSON as Changed says", tag: "operators", security: "operator", out: reflect.TypeFor[api.Changed](), outKind: "text/event-stream", params: []*huma.Param{param("header", "Last-Event-ID", "of the last event: what changed since then is told first", false)}},
		{method: "GET", path: "/v1/jobs/{id}/artifact", id: "job-artifact", summary: "The live patch that a job made", tag: "operators", security: "operator", outKind: bytes, params: []*huma.Param{id}},

		{method: "GET", path: "/v1/sign-in/oidc/{provider}", id: "sign-in-oidc-begin", summary: "Send the browser to an OpenID provider to sign in there", tag: "public", status: "303", params: []*huma.Param{param("path", "provider", "", true), param("query", "return_to", "path of the console to come back to", false)}},
		{method: "GET", path: people.CallbackPath, id: "sign-in-oidc-finish", summary: "Where a provider sends the browser back to; it goes on to the console, signed in or with ?error=CODE", tag: "public", status: "303", params: []*huma.Param{param("query", "state", "", false), param("query", "code", "", false), param("query", "iss", "", false), param("query", "error", "", false)}},

		{method: "PUT", path: "/v1/worker/jobs/{id}/files/{name}", id: "put-job-file", summary: "Upload a result of a job", tag: "workers", security: "operator", inKind: bytes, status: "204", params: []*huma.Param{id, param("path", "name", "livepatch.tsugi, report.json, proof.json, console-before.txt or console-after.txt", true), param("query", "worker", "", true), param("query", "attempt", "", true)}},
		{method: "GET", path: "/v1/worker/jobs/{id}/previous", id: "job-previous", summary: "The live patch that the job's supersedes", tag: "workers", security: "operator", outKind: bytes, params: []*huma.Param{id}},
		{method: "GET", path: "/v1/worker/updates/{digest}", id: "worker-update", summary: "The fixes that a job's choice is of", tag: "workers", security: "operator", outKind: "application/json", params: []*huma.Param{param("path", "digest", "", true)}},
		{method: "GET", path: "/v1/worker/cache/{key}", id: "cache-get", summary: "An entry of the shared object cache", tag: "workers", security: "operator", outKind: bytes, params: []*huma.Param{param("path", "key", "", true)}},
		{method: "PUT", path: "/v1/worker/cache/{key}", id: "cache-put", summary: "Share an object", tag: "workers", security: "operator", inKind: bytes, status: "204", params: []*huma.Param{param("path", "key", "", true)}},
	}
}

func number(f float64) *float64 { return &f }

// document finishes the OpenAPI document and serves it.
func (s *Server) document(o *operations, mux *http.ServeMux) {
	d := o.api.OpenAPI()
	schemas := d.Components.Schemas
	for _, p := range plains() {
		h := &huma.Operation{
			OperationID: p.id, Method: p.method, Path: p.path, Summary: p.summary, Tags: []string{p.tag},
			Parameters: p.params, Responses: map[string]*huma.Response{},
		}
		if p.security != "" {
			h.Security = []map[string][]string{{p.security: {}}}
			if p.security == "operator" {
				h.Security = append(h.Security, map[string][]string{"session": {}})
			}
		}
		switch {
		case p.in != nil:
			h.RequestBody = &huma.RequestBody{Required: true, Content: jsonOf(schemas.Schema(p.in, true, p.in.Name()))}
		case p.inKind != "":
			h.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{p.inKind: {}}}
		}
		status := p.status
		if status == "" {
			status = "200"
		}
		ok := &huma.Response{Description: "Done"}
		switch {
		case p.out != nil && p.outKind != "":
			ok.Content = map[string]*huma.MediaType{p.outKind: {Schema: schemas.Schema(p.out, true, p.out.Name())}}
		case p.out != nil:
			ok.Content = jsonOf(schemas.Schema(p.out, true, p.out.Name()))
		case p.outKind != "":
			ok.Content = map[string]*huma.MediaType{p.outKind: {}}
		}
		h.Responses[status] = ok
		for code, what := range p.others {
			h.Responses[code] = &huma.Response{Description: what}
		}
		h.Responses["default"] = &huma.Response{}
		d.AddOperation(h)
	}
	// What huma says about errors is its own; ours are of package api.
	problem := map[string]*huma.MediaType{"application/problem+json": {Schema: schemas.Schema(reflect.TypeFor[api.Error](), true, "Error")}}
	for _, item := range d.Paths {
		for _, h := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if h == nil {
				continue
			}
			for status, r := range h.Responses {
				if status == "default" || strings.HasPrefix(status, "4") || strings.HasPrefix(status, "5") {
					r.Content = problem
					if r.Description == "" {
						r.Description = "Error"
					}
				}
			}
		}
	}
	for name := range schemas.Map() {
		if strings.HasPrefix(name, "Huma") {
			delete(schemas.Map(), name)
		}
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // the same document for every server: the tests make it
	}
	yaml, err := d.YAML()
	if err != nil {
		panic(err)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		serveBytes(w, r, "application/openapi+json", "public, max-age=300", text)
	})
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, r *http.Request) {
		serveBytes(w, r, "application/openapi+yaml", "public, max-age=300", yaml)
	})
}

func jsonOf(s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: s}}
}
