// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// codesPage is where the codes are explained.
const codesPage = "https://github.com/tsugi-project/tsugi/blob/main/docs/codes.md#"

// fault is an error as it is sent: problem+json. Every error of every handler
// becomes one before it leaves.
type fault struct {
	body       api.Error
	retryAfter int   // seconds; 0: none
	cause      error // for the log, never for the client
}

func (f *fault) Error() string {
	s := string(f.body.Code) + ": " + f.body.Title
	if f.body.Detail != "" {
		s += ": " + f.body.Detail
	}
	return s
}

func (f *fault) Unwrap() error { return f.cause }

// GetStatus, GetHeaders, ContentType and MarshalJSON let huma send a fault.
func (f *fault) GetStatus() int { return f.body.Status }

func (f *fault) GetHeaders() http.Header {
	h := http.Header{}
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.body.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="tsugi"`)
	}
	return h
}

func (f *fault) ContentType(string) string { return "application/problem+json" }

func (f *fault) MarshalJSON() ([]byte, error) { return json.Marshal(f.body) }

// statusOf is the HTTP status of a problem. What is not named here is the
// fault of what the client sent.
func statusOf(c code.Code) int {
	switch c {
	case "TS7603", "TS7621", "TS7623", "TS8201", "TS8207", "TS8210", "TS8211", "TS8217":
		return http.StatusUnauthorized
	case "TS7622", "TS8202", "TS8203", "TS8204", "TS8205", "TS8206", "TS8209", "TS8223", "TS8229":
		return http.StatusForbidden
	case "TS7605", "TS7501", "TS7507", "TS7701", "TS7703", "TS7902", "TS7904", "TS7905", "TS8108", "TS8226":
		return http.StatusNotFound
	case "TS7606":
		return http.StatusMethodNotAllowed
	case "TS7607":
		return http.StatusRequestEntityTooLarge
	case "TS7608", "TS8208":
		return http.StatusTooManyRequests
	case "TS7609":
		return http.StatusInternalServerError
	case "TS8218":
		return http.StatusBadGateway
	case "TS7610":
		return http.StatusServiceUnavailable
	case "TS7611", "TS7502", "TS7503", "TS7702", "TS7705", "TS7707", "TS7716", "TS7903", "TS7906", "TS7909", "TS8102", "TS8103", "TS8106", "TS8107", "TS8214", "TS8215", "TS8222", "TS8225", "TS8227", "TS8231":
		return http.StatusConflict
	}
	if strings.HasPrefix(string(c), "TS74") { // the store or the disk under it
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

// refuse makes a fault of a code.
func refuse(c code.Code, where, why string) *fault { return faultOf(code.New(c, where, why), 0) }

func faultOf(p *code.Problem, status int) *fault {
	if status == 0 {
		status = statusOf(p.Code)
	}
	why := p.Why
	if p.Err != nil && status < http.StatusInternalServerError {
		why = joined(why, p.Err.Error())
	}
	return &fault{
		body: api.Error{
			Type: codesPage + strings.ToLower(string(p.Code)), Title: p.What, Status: status,
			Detail: why, Code: p.Code, Where: p.Where, Fix: p.Fix,
		},
		cause: p.Err,
	}
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ": " + b
}

// toFault turns any error into what the client may know of it. What is no
// problem with a code is a defect: the client learns that, the log the rest.
func toFault(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return faultOf(p, 0)
	}
	var f *fault
	switch {
	case errors.Is(err, store.ErrNotFound):
		f = refuse("TS7605", "", "")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrLost):
		f = refuse("TS7611", "", reason(err))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		f = refuse("TS7610", "", "it took too long")
		f.retryAfter = 5
	default:
		f = refuse("TS7609", "", "")
	}
	f.cause = err
	return f
}

// reason is what a store's error says before the engine's own words, which
// stand in parentheses.
func reason(err error) string {
	s, _, _ := strings.Cut(err.Error(), " (")
	return s
}

// missing is the answer for a name that nothing has.
func missing(err error, what, name string) error {
	if errors.Is(err, store.ErrNotFound) {
		return refuse("TS7605", "", fmt.Sprintf("no %s %q", what, name))
	}
	return err
}

// writeFault sends an error and logs what is the server's own.
func (s *Server) writeFault(w http.ResponseWriter, r *http.Request, err error) {
	f := toFault(err)
	s.logFault(r.Context(), r.Method, r.URL.Path, f)
	for k, v := range f.GetHeaders() {
		w.Header()[k] = v
	}
	h := w.Header()
	h.Set("Content-Type", f.ContentType(""))
	h.Del("ETag")
	w.WriteHeader(f.body.Status)
	_ = json.NewEncoder(w).Encode(f.body) // the connection is the client's
}

func (s *Server) logFault(ctx context.Context, method, path string, f *fault) {
	if f.body.Status >= http.StatusInternalServerError && ctx.Err() == nil {
		s.log.Error("request could not be answered", "method", method, "path", path, "code", f.body.Code, "err", causeOf(f))
	}
}

func causeOf(f *fault) error {
	if f.cause != nil {
		return f.cause
	}
	return f
}

// transformFault turns the errors that huma makes itself into ours.
func transformFault(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	c := code.Code("TS7601")
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		c = "TS7607"
	case http.StatusInternalServerError:
		c = "TS7609"
	}
	f := faultOf(code.New(c, "", m.Detail), m.Status)
	for _, d := range m.Errors {
		if d != nil {
			f.body.Problems = append(f.body.Problems, api.ErrorDetail{Location: d.Location, Message: d.Message})
		}
	}
	return f, nil
}
