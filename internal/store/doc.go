// SPDX-License-Identifier: Apache-2.0

// Package store keeps what the server knows: machines, tokens, tiers, live
// patches and where they are published, the files of TUF, reports, jobs,
// operators, settings and the audit log. It runs on SQLite, inside the
// process, or on PostgreSQL, which several servers may share.
//
// # One schema, one set of queries
//
// The schema (migrations/) and the queries (queries/, compiled by sqlc into
// package query) keep to what both engines understand alike, and the whole
// test suite runs on both. Rows come out as this package's own structs.
// Package query's code is committed; `make queries` writes it again.
//
// # What a caller may rely on
//
// A method that returned without an error has written durably: SQLite commits
// with synchronous=FULL and PostgreSQL with its default, so neither a killed
// process nor lost power takes back what was acknowledged. Writes that belong
// together are one transaction (Update). Everything is safe for concurrent use.
//
// Errors that callers branch on are ErrNotFound, ErrConflict, ErrLimit,
// ErrRevoked, ErrExpired and ErrLost; errors that a person must act on, such
// as a full disk, are problems with a code (TS74xx). An error that is neither
// is a defect or a cancelled context.
//
// # The change feed
//
// A server keeps what it needs for check-ins in memory. Every write that
// another server's memory must learn of takes a number from one counter as the
// last thing that its transaction does, so that numbers become visible in
// their order: a reader that asks for Changes after the highest number it has
// seen misses nothing.
package store
