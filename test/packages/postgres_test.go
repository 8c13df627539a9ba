// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

const postgres = "debian:postgresql-15=15.18-0+deb12u1"

// The archive has no source of a later PostgreSQL, so these changes are ours:
// of two functions that pgbench calls in each transaction.
func postgresChange(t *testing.T, of *userland.Target, number int) *build.Report {
	t.Helper()
	return live(t, of, edited(t, of, fmt.Sprintf("postgres-%d", number), edit{
		"src/backend/utils/adt/int.c",
		"	int32		result;\n\n	if (unlikely(pg_add_s32_overflow(arg1, arg2, &result)))\n		ereport(ERROR,\n				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),\n				 errmsg(\"integer out of range\")));\n	PG_RETURN_INT32(result);\n}\n\nDatum\nint4mi",
		fmt.Sprintf("	int32		result;\n\n	if (unlikely(pg_add_s32_overflow(arg1, arg2, &result)))\n		ereport(ERROR,\n				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),\n				 errmsg(\"integer out of range, change %d\")));\n	PG_RETURN_INT32(result);\n}\n\nDatum\nint4mi", number),
	}, edit{
		"src/backend/utils/adt/version.c",
		"cstring_to_text(PG_VERSION_STR)",
		fmt.Sprintf("cstring_to_text(PG_VERSION_STR \", change %d\")", number),
	}))
}

func TestPostgreSQLUnderLoad(t *testing.T) {
	of := target(t, postgres)
	one, two := postgresChange(t, of, 1), postgresChange(t, of, 2)
	names := changed(one)
	slices.Sort(names)
	qt.Assert(t, qt.DeepEquals(names, []string{"int4pl", "pgsql_version"}))

	const bin = "/usr/lib/postgresql/15/bin/"
	dir := place(t)
	stock(t, of, bin+"postgres", dir)
	unpacked(t, of, dir+"/clients", "postgresql-client-15", "libpq5")
	data := owned(t, dir+"/data")
	env := append(os.Environ(), libraryPath(dir+"/clients"), "PGHOST="+data, "PGUSER=nobody", "PGDATABASE=postgres", "LC_ALL=C")
	client := func(program string, argv ...string) *exec.Cmd {
		cmd := exec.Command(program, argv...)
		cmd.Env = env
		return cmd
	}
	initdb := unprivileged(client(dir+bin+"initdb", "-D", data+"/db", "-A", "trust", "-U", "nobody", "-N", "-L", dir+"/usr/share/postgresql/15"))
	do(t, initdb)
	psql := dir + "/clients" + bin + "psql"
	server := client(dir+bin+"postgres", "-D", data+"/db", "-k", data, "-c", "listen_addresses=", "-c", "shared_buffers=64MB", "-c", "fsync=off")
	pid := daemon(t, server, dir+"/log", func() bool { return client(psql, "-c", "select 1").Run() == nil })
	do(t, client(dir+bin+"pgbench", "-i", "-q", "-s", "2"))

	script := dir + "/version.sql"
	qt.Assert(t, qt.IsNil(os.WriteFile(script, []byte("select length(version());\n"), 0o644)))
	counted := regexp.MustCompile(`number of transactions actually processed: (\d+)\s+number of failed transactions: 0 `)
	done := 0
	work := burden(t, func() *exec.Cmd {
		return client(dir+bin+"pgbench", "-c", "8", "-j", "2", "-T", "3", "-n", "-b", "tpcb-like@4", "-f", script+"@4")
	}, func(said string) error {
		m := counted.FindStringSubmatch(said)
		if m == nil {
			return fmt.Errorf("transactions have failed")
		}
		n, err := strconv.Atoi(m[1])
		done += n
		return err
	})

	p := talk(t, env, psql, "-X", "-A", "-t", "-q")
	const stockVersion = "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14+deb12u1) 12.2.0, 64-bit"
	const version, overflow = "select version();", "select 2147483647 + x from (values (1)) t (x);\n\\echo :LAST_ERROR_MESSAGE"
	says := func(more string) [][2]string {
		return [][2]string{{version, stockVersion + more}, {overflow, "integer out of range" + more}, {"select x + 1 from (values (1)) t (x);", "2"}}
	}
	answers(t, p, "before", says(""))
	for range cycles {
		intoAll(t, pid, one)
		answers(t, p, "with the first", says(", change 1"))
		answers(t, talk(t, env, psql, "-X", "-A", "-t", "-q"), "in a new connection", says(", change 1"))
		intoAll(t, pid, two)
		answers(t, p, "with the second", says(", change 2"))
		outOfAll(t, pid)
		answers(t, p, "out again", says(""))
	}
	intoAll(t, pid, one)
	work.end()
	answers(t, p, "at the end", says(", change 1"))
	p.quit()
	qt.Check(t, qt.IsTrue(work.runs > 0))
	t.Logf("%d transactions by 8 clients in %d runs of pgbench, none failed", done, work.runs)
}
