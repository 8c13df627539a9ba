// SPDX-License-Identifier: Apache-2.0

// Package api is what the server, the agent and tsugictl say to each other:
// the types of the HTTP API and nothing that decides. Package client speaks
// them; package server answers; docs/openapi.yaml is made from them.
//
// All times are milliseconds since 1970 UTC. Ids are UUIDs of version 7 unless
// a comment says otherwise. Every request body is bounded (MaxBody) and
// answered within bounded time; errors are application/problem+json (RFC 9457)
// with the code of the problem in "code" and its remedy in "fix".
package api

import "github.com/tsugi-project/tsugi/internal/code"

// Limits that both sides hold.
const (
	MaxBody     = 1 << 20   // bytes of a request that is not an artifact
	MaxArtifact = 512 << 20 // bytes of a live patch file
	MaxReports  = 100       // in one request
	MaxModules  = 4096      // in one check-in
)

// Header names of the API.
const (
	// IdempotencyKey makes a repeated POST harmless.
	IdempotencyKey = "Idempotency-Key"
	// BackgroundHeader marks what a page that is open asks by itself, with
	// nobody at it: such a request does not keep a session from ending.
	BackgroundHeader = "Tsugi-Background"
)

// Error is the body of every answer that is not a success: problem+json.
type Error struct {
	Type     string        `json:"type,omitempty"` // a URI of the code's page
	Title    string        `json:"title"`
	Status   int           `json:"status"`
	Detail   string        `json:"detail,omitempty"`
	Code     code.Code     `json:"code,omitempty"`
	Where    string        `json:"where,omitempty"`
	Fix      string        `json:"fix,omitempty"`
	Problems []ErrorDetail `json:"errors,omitempty"` // of single fields
}

// ErrorDetail is one field that was not accepted.
type ErrorDetail struct {
	Location string `json:"location,omitempty"` // body.kernel.release
	Message  string `json:"message"`
}

// Problem is a problem as it travels in a body.
type Problem struct {
	Code  code.Code `json:"code"`
	What  string    `json:"what,omitempty"`
	Where string    `json:"where,omitempty"`
	Why   string    `json:"why,omitempty"`
	Fix   string    `json:"fix,omitempty"`
}

// List is one page of things. Next, given as ?after=, gets the page after it;
// "" is the last one.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}
