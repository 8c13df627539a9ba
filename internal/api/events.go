// SPDX-License-Identifier: Apache-2.0

package api

// Changed is one event of the stream of changes: what of a page that is open
// has to be asked for again.
type Changed struct {
	All bool `json:"all,omitempty" doc:"Anything may have changed: more happened than the server remembers"`
	// Kinds are what changed, with the ids where few did and they are told.
	Kinds map[string][]string `json:"kinds" doc:"machine, livepatch, tier, policy, job, rollout and others; the ids of what changed, none if there were many"`
}
