// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tsugi-project/tsugi/internal/code"
)

// What callers branch on. Errors wrap them and say more.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflicts with what is stored")
	ErrLimit    = errors.New("the limit is reached")
	ErrRevoked  = errors.New("revoked")
	ErrExpired  = errors.New("expired")
	ErrLost     = errors.New("the lease is lost") // another worker has the job, or nobody
)

// LimitError is the ErrLimit of an enrolment.
type LimitError struct {
	Of    string // "plan" or "token"
	Limit int
	Used  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d of %d machines", e.Of, e.Used, e.Limit)
}

func (e *LimitError) Unwrap() error { return ErrLimit }

// translate turns what an engine says into what this package says. What it
// does not know stays as it is.
func (s *Store) translate(err error) error {
	var p *code.Problem
	switch {
	case err == nil || errors.As(err, &p):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return s.fromSQLite(err, e.Code())
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return s.fromPostgreSQL(err, e.Code)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return code.New("TS7402", s.place, "").With(err)
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return code.New("TS7402", s.place, "the connection broke").With(err)
	}
	return err
}

func (s *Store) fromSQLite(err error, rc int) error {
	switch rc {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w (%w)", ErrConflict, err)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	}
	switch rc & 0xff { // the primary code
	case sqlite3.SQLITE_FULL:
		return code.New("TS7403", s.place, "").With(err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return code.New("TS7404", s.place, "").With(err)
	case sqlite3.SQLITE_CANTOPEN:
		// Also what it says when it may not make its other files.
		const write = 2
		for _, path := range []string{filepath.Dir(s.place), s.place} {
			if e := syscall.Access(path, write); errors.Is(e, fs.ErrPermission) || errors.Is(e, syscall.EROFS) {
				return code.New("TS7404", path, "").With(err)
			}
		}
		return code.New("TS7402", s.place, "").With(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return code.New("TS7405", s.place, "").With(err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return code.New("TS7406", s.place, "").With(err)
	case sqlite3.SQLITE_IOERR:
		return code.New("TS7407", s.place, "").With(err)
	}
	return err
}

// The conditions of PostgreSQL that a person acts on, by SQLSTATE (appendix A
// of its manual).
func (s *Store) fromPostgreSQL(err error, state string) error {
	switch state {
	case "23505": // unique_violation
		return fmt.Errorf("%w (%w)", ErrConflict, err)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case "22021": // character_not_in_repertoire: nothing that is stored has such an id (see text)
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case "53100": // disk_full
		return code.New("TS7403", s.place, "").With(err)
	case "25006", "42501": // read_only_sql_transaction, insufficient_privilege
		return code.New("TS7404", s.place, "").With(err)
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return code.New("TS7405", s.place, "").With(err)
	case "55P03", "57014": // lock_not_available, query_canceled
		return code.New("TS7406", s.place, "").With(err)
	case "58030": // io_error
		return code.New("TS7407", s.place, "").With(err)
	}
	switch state[:min(2, len(state))] {
	case "08", "53", "57", "3D", "28": // connection, resources, shutdown, no such database, not authorised
		return code.New("TS7402", s.place, "").With(err)
	}
	return err
}

// again reports whether a transaction failed only because of another one.
func again(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01") // serialization_failure, deadlock_detected
}

// noTable reports whether a statement failed because its table is not there.
func noTable(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == "42P01" // undefined_table
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && strings.Contains(e.Error(), "no such table") // SQLite has no code for it
}
