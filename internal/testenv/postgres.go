// SPDX-License-Identifier: Apache-2.0

package testenv

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// cluster is a PostgreSQL server that the tests of one package share: Debian's
// own, with its default settings (fsync included), in a directory of its own
// and on a Unix socket there.
type cluster struct {
	dir string
	// alive is a pipe that the server's keeper reads: see server.
	alive io.Closer
}

// shared starts the server when it is first asked for.
var shared = sync.OnceValues(startPostgreSQL)

// errNoPostgreSQL says that the package is not installed.
var errNoPostgreSQL = errors.New("PostgreSQL is not installed (apt-get install postgresql)")

// Postgres makes an empty database and returns its URL. It goes with the
// server: dropping it would cost a checkpoint. Without PostgreSQL on this
// machine the test is skipped, and fails with TSUGI_TEST_KERNELS=1.
func Postgres(t testing.TB) string {
	t.Helper()
	c, err := shared()
	if errors.Is(err, errNoPostgreSQL) && os.Getenv("TSUGI_TEST_KERNELS") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := c.exec("CREATE DATABASE " + name + " TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		t.Fatal(err)
	}
	return c.url(name)
}

func (c *cluster) url(database string) string {
	q := url.Values{"host": {c.dir}, "user": {"postgres"}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + q.Encode()
}

func (c *cluster) exec(statement string) error {
	db, err := sql.Open("pgx", c.url("postgres"))
	if err != nil {
		return err
	}
	_, err = db.Exec(statement)
	return errors.Join(err, db.Close())
}

// programs is the directory of the newest PostgreSQL that there is: Debian
// keeps initdb and postgres out of the path.
func programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoPostgreSQL
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(strings.Split(p, "/")[4])
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// server runs PostgreSQL until its standard input ends, which it does when the
// tests' process does, however that ends; then nothing of it is left.
const server = `
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=200 >"$2/log" 2>&1 &
server=$!
read -r _
kill -QUIT $server
wait $server
rm -rf "$2"
`

func startPostgreSQL() (*cluster, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	// A short path: a Unix socket's has 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "tsugi-pg-*")
	if err != nil {
		return nil, err
	}
	as, err := account(dir)
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", dir+"/data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	keeper := exec.Command("/bin/sh", "-c", server, "server", bin, dir)
	keeper.SysProcAttr, keeper.Dir = as, dir
	alive, err := keeper.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := keeper.Start(); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	c := &cluster{dir: dir, alive: alive}
	return c, c.ready()
}

// account is user postgres for root, whom PostgreSQL does not serve.
func account(dir string) (*syscall.SysProcAttr, error) {
	// A group of its own: a ^C at the terminal is for the tests alone.
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{Setpgid: true}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPostgreSQL, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func (c *cluster) ready() error {
	db, err := sql.Open("pgx", c.url("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			c.alive.Close()
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("PostgreSQL does not answer: %w: %s", err, log)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
