// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// A dump is lines of JSON: a head; for each table its name and columns, then
// its rows as arrays; and a tail with the SHA-256 of all before it. Values are
// strings, integers, booleans and, for bytes, base64. It is the same whichever
// engine wrote it, and either reads it.

const dumpFormat = 1

type dumpHead struct {
	Dump   string `json:"dump"`   // "tsugi"
	Format int    `json:"format"` // dumpFormat
	Schema int64  `json:"schema"` // version of the schema
	Time   int64  `json:"time"`
}

type dumpTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type dumpTail struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// tables are all tables with data of a schema, those before that others refer
// to.
func tables(schema int64) []string {
	all := []string{
		"counters", "settings", "tiers", "operators", "tokens", "machines", "machine_seen", "livepatches", "publications",
	}
	if schema >= 2 {
		all = append(all, "lines", "versions", "policies", "policy_groups", "updates", "choices")
	}
	if schema >= 3 {
		all = append(all, "rebuilds")
	}
	if schema >= 4 {
		all = append(all, "users", "identities", "passkeys", "recovery_codes", "sessions", "links", "ceremonies", "approvals")
	}
	if schema >= 5 {
		all = append(all, "rollouts", "rollout_machines", "rollout_steps", "leases")
	}
	if schema >= 6 {
		all = append(all, "channels", "outbox", "watches")
	}
	if schema >= 7 {
		all = append(all, "samples", "windows")
	}
	return append(all, "indexes", "tuf_files", "reports", "jobs", "job_logs", "audit", "changes")
}

// newestSchema is more than any schema has.
const newestSchema = math.MaxInt64

// Dump writes everything as it is at one moment, while the server goes on.
func (s *Store) Dump(ctx context.Context, w io.Writer) error {
	options := &sql.TxOptions{ReadOnly: true}
	if s.engine == enginePostgreSQL {
		options.Isolation = sql.LevelRepeatableRead // one snapshot for all tables; a transaction of SQLite has that
	}
	tx, err := s.read.BeginTx(ctx, options)
	if err != nil {
		return s.translate(err)
	}
	defer tx.Rollback() //nolint:errcheck // it only reads
	d := &dumper{tx: tx, sum: sha256.New()}
	d.buffer = bufio.NewWriterSize(w, 1<<16)
	d.w = io.MultiWriter(d.buffer, d.sum)
	if err := d.all(ctx, s.now().UnixMilli()); err != nil {
		return s.translate(err)
	}
	return d.buffer.Flush()
}

type dumper struct {
	tx     *sql.Tx
	buffer *bufio.Writer
	sum    hash.Hash
	w      io.Writer
	rows   int64
}

func (d *dumper) all(ctx context.Context, now int64) error {
	h := dumpHead{Dump: "tsugi", Format: dumpFormat, Time: now}
	err := d.tx.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&h.Schema)
	if err != nil {
		return fmt.Errorf("version of the schema: %w", err)
	}
	if err := d.line(h); err != nil {
		return err
	}
	for _, t := range tables(h.Schema) {
		if err := d.table(ctx, t); err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	return d.line(dumpTail{Rows: d.rows, SHA256: hex.EncodeToString(d.sum.Sum(nil))})
}

func (d *dumper) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = d.w.Write(append(b, '\n'))
	return err
}

func (d *dumper) table(ctx context.Context, name string) error {
	rows, err := d.tx.QueryContext(ctx, "SELECT * FROM "+name)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := describe(rows)
	if err != nil {
		return err
	}
	head := dumpTable{Table: name}
	for _, c := range columns {
		head.Columns = append(head.Columns, c.name)
	}
	if err := d.line(head); err != nil {
		return err
	}
	for rows.Next() {
		row := make([]any, len(columns))
		for i, c := range columns {
			row[i] = c.kind.empty()
		}
		if err := rows.Scan(row...); err != nil {
			return err
		}
		for _, v := range row {
			if b, ok := v.(*[]byte); ok {
				*b = filled(*b) // SQLite's driver gives nil for no bytes
			}
		}
		if err := d.line(row); err != nil {
			return err
		}
		d.rows++
	}
	return rows.Err()
}

// columnKind is one of the four kinds of columns that there are.
type columnKind int

const (
	kindText columnKind = iota
	kindInteger
	kindBoolean
	kindBytes
)

type column struct {
	name string
	kind columnKind
}

// empty is where a value of the kind is read into; JSON writes it as its own.
func (k columnKind) empty() any {
	switch k {
	case kindInteger:
		return new(int64)
	case kindBoolean:
		return new(bool)
	case kindBytes:
		return new([]byte)
	default:
		return new(string)
	}
}

// describe says what the columns of a table are. SQLite gives the names of the
// types that the schema has, PostgreSQL its own for them.
func describe(rows *sql.Rows) ([]column, error) {
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	all := make([]column, len(types))
	for i, t := range types {
		all[i].name = t.Name()
		switch name := strings.ToUpper(t.DatabaseTypeName()); name {
		case "TEXT":
			all[i].kind = kindText
		case "BIGINT", "INT8":
			all[i].kind = kindInteger
		case "BOOLEAN", "BOOL":
			all[i].kind = kindBoolean
		case "BYTEA":
			all[i].kind = kindBytes
		default:
			return nil, fmt.Errorf("column %s is of type %q", t.Name(), name)
		}
	}
	return all, nil
}

// Backup writes a file from which Restore makes the database again, while the
// server goes on: of SQLite a compact copy of the database, which can also be
// put in its place, of PostgreSQL a dump. The file appears whole or not at
// all; one that is there is replaced.
func (s *Store) Backup(ctx context.Context, path string) error {
	if s.engine == enginePostgreSQL {
		f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600))
		if err != nil {
			return fileProblem(path, err)
		}
		defer f.Cleanup() //nolint:errcheck // after it has its place there is nothing to do
		if err := s.Dump(ctx, f); err != nil {
			return fileProblem(path, err)
		}
		return fileProblem(path, f.CloseAtomicallyReplace())
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".tsugi-backup-*")
	if err != nil {
		return fileProblem(path, err)
	}
	defer os.RemoveAll(dir)
	tmp := filepath.Join(dir, "copy")
	if err := s.copyTo(ctx, tmp); err != nil {
		return err
	}
	return fileProblem(path, placeFile(tmp, path))
}

// copyTo makes a copy of an SQLite database. It takes a connection of its own:
// those of the readers may write nothing, and that of the writer has work.
func (s *Store) copyTo(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", sqliteDSN(s.place))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", path)
	return s.translate(err)
}

// placeFile makes a file durable and gives it its name.
func placeFile(tmp, path string) error {
	f, err := os.OpenFile(tmp, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
