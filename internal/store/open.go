// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store/query"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Store is an open database.
type Store struct {
	Reader
	place  string // of the database, for messages; without a password
	engine engine
	write  *sql.DB
	read   *sql.DB // the same as write on PostgreSQL
	writer *query.Queries
	group  committer
	now    func() time.Time
	leave  bool // ToCheck
}

type engine string

const (
	engineSQLite     engine = "sqlite"
	enginePostgreSQL engine = "postgresql"
)

// Option changes how a store is opened.
type Option func(*Store)

// WithClock lets tests move time.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// ToCheck leaves entries of the audit log that have no place in its chain as
// they are, for CheckAudit to find.
func ToCheck() Option { return func(s *Store) { s.leave = true } }

// Open opens a database and brings its schema up to date: "sqlite:/path/file.db",
// whose file is made when it is missing, or "postgres://user@host/database".
func Open(ctx context.Context, dsn string, options ...Option) (*Store, error) {
	s, err := connect(dsn, options...)
	if err != nil {
		return nil, err
	}
	all, err := fs.Sub(embedded, "migrations")
	if err == nil {
		err = s.awake(ctx)
	}
	if err == nil {
		err = s.migrate(ctx, all)
	}
	if err == nil {
		err = s.prepare(ctx)
	}
	if err == nil && !s.leave {
		err = s.adopt(ctx)
	}
	if err != nil {
		return nil, errors.Join(s.translate(err), s.Close())
	}
	return s, nil
}

// connect makes the pools and asks nothing of the database yet.
func connect(dsn string, options ...Option) (*Store, error) {
	s := &Store{now: time.Now}
	for _, o := range options {
		o(s)
	}
	s.group.store = s
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		if rest == "" || strings.ContainsAny(rest, "?#\x00") || strings.HasPrefix(rest, ":") {
			return nil, code.New("TS7401", scheme, "a path of a file is needed: sqlite:/var/lib/tsugi-server/tsugi.db")
		}
		return s, s.connectSQLite(rest)
	case "postgres", "postgresql":
		return s, s.connectPostgreSQL(dsn)
	}
	return nil, code.New("TS7401", "", "it starts with neither sqlite: nor postgres:")
}

// connectSQLite makes one connection that writes and some that read, which
// the write-ahead log lets work side by side. Each transaction of the writer
// begins IMMEDIATE, for one that begins with a read could not wait for its
// turn. synchronous=FULL: with NORMAL the log is not synced when a transaction
// commits, and a power loss takes back reports that machines were told are
// stored and deleted.
func (s *Store) connectSQLite(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("path of the database: %w", err)
	}
	s.engine, s.place = engineSQLite, path
	// SQLite gives its other files the permissions of the first. Only a new
	// one is opened here: closing another would drop this process's locks on it.
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		if err := f.Close(); err != nil {
			return fileProblem(path, err)
		}
	}
	dsn := sqliteDSN(path, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit(67108864)", "cache_size(-65536)")
	if s.write, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", sqliteDSN(path, "query_only(1)", "cache_size(-16384)")); err != nil {
		return err
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return nil
}

func sqliteDSN(path string, pragmas ...string) string {
	v := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "temp_store(2)"}, pragmas...)}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: v.Encode()}).String()
}

func (s *Store) connectPostgreSQL(dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return code.New("TS7401", "", "not the URL of a PostgreSQL database").With(err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "tsugi-server"
	}
	s.engine, s.place = enginePostgreSQL, fmt.Sprintf("%s on %s", config.Database, config.Host)
	s.write = stdlib.OpenDB(*config)
	conns := max(8, 4*runtime.GOMAXPROCS(0))
	s.write.SetMaxOpenConns(conns)
	s.write.SetMaxIdleConns(conns)
	s.write.SetConnMaxIdleTime(5 * time.Minute)
	s.read = s.write
	return nil
}

// awake makes the first connection. SQLite does not wait for its turn, whatever
// busy_timeout says, while another server gives a new database its write-ahead
// log; that takes moments.
func (s *Store) awake(ctx context.Context) error {
	const patience = 10 * time.Second
	for began := time.Now(); ; {
		err := s.write.PingContext(ctx)
		if code.Of(s.translate(err)) != "TS7406" || time.Since(began) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// prepare compiles the queries. pgx keeps prepared statements by itself.
func (s *Store) prepare(ctx context.Context) (err error) {
	if s.engine == enginePostgreSQL {
		s.writer = query.New(s.write)
		s.Reader = Reader{q: s.writer, s: s}
		return nil
	}
	if s.writer, err = query.Prepare(ctx, s.write); err != nil {
		return err
	}
	reader, err := query.Prepare(ctx, s.read)
	s.Reader = Reader{q: reader, s: s}
	return err
}

// migrate brings the schema to the newest version. Servers that start together
// do it one after another: on PostgreSQL behind a lock, on SQLite each step is
// an exclusive transaction, and whoever comes second finds it done.
func (s *Store) migrate(ctx context.Context, all fs.FS) error {
	p, err := s.migrations(all)
	if err != nil {
		return err
	}
	sources := p.ListSources()
	newest := sources[len(sources)-1].Version
	for {
		now, err := p.GetDBVersion(ctx)
		if err != nil {
			return err
		}
		if now > newest {
			return code.New("TS7408", s.place, fmt.Sprintf("its schema is version %d, this program knows %d", now, newest))
		}
		if _, err = p.Up(ctx); err == nil {
			return nil
		}
		if after, other := p.GetDBVersion(ctx); other != nil || after == now {
			return err
		}
	}
}

func (s *Store) migrations(all fs.FS) (*goose.Provider, error) {
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.engine == enginePostgreSQL {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, s.write, all, options...)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return p, nil
}

// Schema is the version of the schema.
func (s *Store) Schema(ctx context.Context) (int64, error) {
	var v int64
	err := s.read.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&v)
	return v, s.translate(err)
}

// Size is how many bytes the database has, and the version of its engine.
func (s *Store) Size(ctx context.Context) (size int64, version string, err error) {
	sizes, versions := "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", "SELECT sqlite_version()"
	if s.engine == enginePostgreSQL {
		sizes, versions = "SELECT pg_database_size(current_database())", "SHOW server_version"
	}
	if err = s.read.QueryRowContext(ctx, sizes).Scan(&size); err == nil {
		err = s.read.QueryRowContext(ctx, versions).Scan(&version)
	}
	return size, version, s.translate(err)
}

// Engine is "sqlite" or "postgresql".
func (s *Store) Engine() string { return string(s.engine) }

// Close waits for what is being written.
func (s *Store) Close() error {
	s.group.close()
	var err error
	if s.read != s.write {
		err = s.read.Close()
	}
	return errors.Join(err, s.write.Close())
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.read.PingContext(ctx); err != nil {
		return s.translate(err)
	}
	_, err := s.q.Counter(ctx, counterChanges)
	return s.translate(err)
}
