// SPDX-License-Identifier: Apache-2.0

// Package query holds the compiled queries of package store and nothing else:
// sqlc writes it from ../queries and ../migrations (`make queries`). It is
// not to be edited, and only package store imports it.
package query
