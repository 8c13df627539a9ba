// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/tsugi-project/tsugi/internal/code"
)

// maxLine bounds a line of a dump. The largest rows hold the manifest of a
// live patch, or a job's fixes.
const maxLine = 256 << 20

// Restore fills an empty database from what Dump or Backup wrote on either
// engine, with the schema of then, and brings the schema up to date. A
// database that holds anything of somebody's is left alone (TS7416). Nothing
// is there before all of it is.
func Restore(ctx context.Context, dsn string, r io.Reader) error {
	b := bufio.NewReaderSize(r, 1<<16)
	if magic, err := b.Peek(16); err == nil && string(magic) == "SQLite format 3\x00" {
		return restoreFile(ctx, dsn, b)
	}
	s, err := connect(dsn)
	if err != nil {
		return err
	}
	err = s.restore(ctx, b)
	return errors.Join(s.translate(err), s.Close())
}

// restoreFile restores from a copy of an SQLite database.
func restoreFile(ctx context.Context, dsn string, r io.Reader) (err error) {
	dir, err := os.MkdirTemp("", "tsugi-restore-*")
	if err != nil {
		return fileProblem(os.TempDir(), err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "backup.db")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fileProblem(path, err)
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return fileProblem(path, err)
	}
	from, err := connect("sqlite:" + path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	in, out := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := from.Dump(ctx, out)
		dumped <- err
		out.CloseWithError(err) //nolint:errcheck // never fails
	}()
	err = Restore(ctx, dsn, in)
	in.Close()
	if cause := <-dumped; cause != nil && !errors.Is(cause, io.ErrClosedPipe) {
		return code.New("TS7410", "", "").With(cause)
	}
	return err
}

func (s *Store) restore(ctx context.Context, b *bufio.Reader) error {
	d := &dumpReader{r: b, sum: sha256.New()}
	head, err := d.head()
	if err != nil {
		return err
	}
	all, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	p, err := s.migrations(all)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; head.Schema > newest {
		return code.New("TS7408", "the dump", fmt.Sprintf("its schema is version %d, this program knows %d", head.Schema, newest))
	}
	if err := s.vacant(ctx); err != nil {
		return err
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, head.Schema); err != nil {
		return err
	}
	if err := s.fill(ctx, d); err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// vacant reports whether nobody has used the database: it has no tables, or
// only rows that come with the schema.
func (s *Store) vacant(ctx context.Context) error {
	for _, t := range tables(newestSchema) {
		if slices.Contains([]string{"counters", "tiers"}, t) {
			continue
		}
		var one int
		err := s.write.QueryRowContext(ctx, "SELECT 1 FROM "+t+" LIMIT 1").Scan(&one)
		switch {
		case err == nil:
			return code.New("TS7416", s.place, "table "+t+" has rows")
		case errors.Is(err, sql.ErrNoRows) || noTable(err):
		default:
			return err
		}
	}
	return nil
}

// fill puts the rows of a dump into tables of its own schema.
func (s *Store) fill(ctx context.Context, d *dumpReader) error {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing; before one, there is an error already
	for _, t := range []string{"counters", "tiers"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+t); err != nil {
			return err
		}
	}
	put := insertSQLite
	if s.engine == enginePostgreSQL {
		put = copyPostgreSQL
	}
	if err := d.tables(func(name string, columns []string) ([]column, error) {
		return tableColumns(ctx, tx, name, columns)
	}, func(name string, columns []column, rows [][]any) error {
		err := s.translate(put(ctx, conn, tx, name, columns, rows))
		if errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) { // a key twice, or of nothing
			return damaged("table %s: its rows contradict others", name).With(err)
		}
		return err
	}); err != nil {
		return err
	}
	return tx.Commit()
}

// tableColumns are the columns of a table in the order of the dump.
func tableColumns(ctx context.Context, tx *sql.Tx, name string, dumped []string) ([]column, error) {
	rows, err := tx.QueryContext(ctx, "SELECT * FROM "+name+" LIMIT 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	there, err := describe(rows)
	if err != nil {
		return nil, err
	}
	ordered := make([]column, len(dumped))
	for i, n := range dumped {
		at := slices.IndexFunc(there, func(c column) bool { return c.name == n })
		if at < 0 || slices.Contains(dumped[:i], n) || len(dumped) != len(there) {
			return nil, damaged("table %s: columns %s are not those of its schema", name, strings.Join(dumped, ", "))
		}
		ordered[i] = there[at]
	}
	return ordered, rows.Err()
}

func insertSQLite(ctx context.Context, _ *sql.Conn, tx *sql.Tx, table string, columns []column, rows [][]any) error {
	names, marks := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		names[i], marks[i] = c.name, "?"
	}
	insert, err := tx.PrepareContext(ctx, fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(marks, ", ")))
	if err != nil {
		return err
	}
	defer insert.Close()
	for _, row := range rows {
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

func copyPostgreSQL(ctx context.Context, conn *sql.Conn, _ *sql.Tx, table string, columns []column, rows [][]any) error {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return conn.Raw(func(raw any) error {
		_, err := raw.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, names, pgx.CopyFromRows(rows))
		return named(err, "table %s", table)
	})
}

// dumpReader reads a dump and believes nothing in it.
type dumpReader struct {
	schema int64
	r      *bufio.Reader
	sum    hash.Hash
	rows   int64
}

func damaged(format string, args ...any) *code.Problem {
	return code.New("TS7410", "", fmt.Sprintf(format, args...))
}

// line reads a line; its bytes are valid until the next one.
func (d *dumpReader) line() ([]byte, error) {
	var long []byte
	for {
		part, err := d.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, part...); len(long) > maxLine {
				return nil, damaged("a line is longer than %d bytes", maxLine)
			}
			continue
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, damaged("it ends too early")
		}
		if err != nil {
			return nil, err
		}
		return append(long, part...), nil
	}
}

func strict(line []byte, v any) error {
	j := json.NewDecoder(bytes.NewReader(line))
	j.DisallowUnknownFields()
	return j.Decode(v)
}

func (d *dumpReader) head() (dumpHead, error) {
	line, err := d.line()
	if err != nil {
		return dumpHead{}, err
	}
	var h dumpHead
	if err := strict(line, &h); err != nil || h.Dump != "tsugi" || h.Schema < 1 {
		return dumpHead{}, damaged("it does not begin as one").With(err)
	}
	if h.Format != dumpFormat {
		return dumpHead{}, damaged("format %d, this program knows %d", h.Format, dumpFormat)
	}
	d.sum.Write(line)
	d.schema = h.Schema
	return h, nil
}

// tables reads all tables and the tail. open tells the columns of a table, put
// takes some of its rows, whose values are of their columns' kinds.
func (d *dumpReader) tables(open func(string, []string) ([]column, error), put func(string, []column, [][]any) error) error {
	for _, want := range tables(d.schema) {
		line, err := d.line()
		if err != nil {
			return err
		}
		var t dumpTable
		if err := strict(line, &t); err != nil {
			return damaged("table %s: not readable", want).With(err)
		}
		if t.Table != want {
			return damaged("table %s, where %s should be", t.Table, want)
		}
		d.sum.Write(line)
		columns, err := open(t.Table, t.Columns)
		if err != nil {
			return err
		}
		if err := d.table(t.Table, columns, put); err != nil {
			return err
		}
	}
	line, err := d.line()
	if err != nil {
		return err
	}
	var tail dumpTail
	if err := strict(line, &tail); err != nil {
		return damaged("it does not end as one").With(err)
	}
	if tail.Rows != d.rows || tail.SHA256 != hex.EncodeToString(d.sum.Sum(nil)) {
		return damaged("its contents are not those that were written")
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		return damaged("something follows its end")
	}
	return nil
}

// table reads rows until something else than a row comes.
func (d *dumpReader) table(name string, columns []column, put func(string, []column, [][]any) error) error {
	const batch = 500
	var rows [][]any
	for {
		next, err := d.r.Peek(1)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(next) == 0 || next[0] != '[' || len(rows) == batch {
			if len(rows) > 0 {
				if err := put(name, columns, rows); err != nil {
					return err
				}
				rows = rows[:0]
			}
			if len(next) == 0 || next[0] != '[' {
				return nil
			}
		}
		line, err := d.line()
		if err != nil {
			return err
		}
		row, err := parseRow(line, columns)
		if err != nil {
			return damaged("table %s: a row is not readable", name).With(err)
		}
		d.sum.Write(line)
		d.rows++
		rows = append(rows, row)
	}
}

func parseRow(line []byte, columns []column) ([]any, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	if len(raw) != len(columns) {
		return nil, fmt.Errorf("%d values for %d columns", len(raw), len(columns))
	}
	row := make([]any, len(columns))
	for i, c := range columns {
		if string(raw[i]) == "null" {
			return nil, fmt.Errorf("column %s: null", c.name)
		}
		v := c.kind.empty()
		if err := json.Unmarshal(raw[i], v); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
		switch v := v.(type) {
		case *string:
			row[i] = text(*v)
		case *int64:
			row[i] = *v
		case *bool:
			row[i] = *v
		case *[]byte:
			row[i] = filled(*v)
		}
	}
	return row, nil
}

// fileProblem says what an error of a backup's file means.
func fileProblem(path string, err error) error {
	var p *code.Problem
	switch {
	case err == nil || errors.As(err, &p):
		return err
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return code.New("TS7403", path, "").With(err)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return code.New("TS7404", path, "").With(err)
	}
	return fmt.Errorf("backup: %w", err)
}
