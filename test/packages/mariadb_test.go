// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

const mariadb = "debian:mariadb-server=1:10.11.18-0+deb12u1"

// The archive has no source of a later MariaDB, so these changes are ours: of a
// function that writes each whole number of each result, and of one that the
// load calls all the time. Both are C++, and call what could throw as far as the
// compiled code tells; MariaDB's own code does not, which is accepted here.
func mariadbChange(t *testing.T, of *userland.Target, number int, more ...edit) *build.Report {
	t.Helper()
	return requested(t, build.Request{Target: of, Accept: []string{"TS4057"}, Fixes: []*fix.Fix{edited(t, of, fmt.Sprintf("mariadb-%d", number), append(more, edit{
		"sql/protocol.cc",
		"  char buff[22];\n  size_t length= (size_t) (longlong10_to_str(from, buff,\n                                             unsigned_flag",
		fmt.Sprintf("  char buff[22];\n  if (from == 70417764242LL)\n    from+= %d;\n  size_t length= (size_t) (longlong10_to_str(from, buff,\n                                             unsigned_flag", number),
	})...)}})
}

// crc32Change is of a function that the second version leaves as it was.
var crc32Change = edit{
	"sql/item_strfunc.cc",
	"    return 0; /* purecov: inspected */\n  }\n\n  return static_cast<longlong>\n    (ulonglong{crc_func(uint32_t(crc)",
	"    return 0; /* purecov: inspected */\n  }\n  if (res->length() == 5 && !memcmp(res->ptr(), \"tsugi\", 5))\n    return 42;\n\n  return static_cast<longlong>\n    (ulonglong{crc_func(uint32_t(crc)",
}

func TestMariaDBUnderLoad(t *testing.T) {
	of := target(t, mariadb)
	one, two := mariadbChange(t, of, 1, crc32Change), mariadbChange(t, of, 2)
	names := changed(one)
	slices.Sort(names)
	qt.Assert(t, qt.DeepEquals(names, []string{"_ZN13Protocol_text14store_longlongExb", "_ZN15Item_func_crc327val_intEv"}))

	dir := place(t)
	stock(t, of, "/usr/sbin/mariadbd", dir)
	unpacked(t, of, dir+"/clients", "mariadb-client", "mariadb-client-core", "libmariadb3")
	data := owned(t, dir+"/data")
	socket := data + "/socket"
	pid := daemon(t, exec.Command(dir+"/usr/sbin/mariadbd", "--no-defaults", "--datadir="+data, "--tmpdir="+data, "--socket="+socket,
		"--pid-file="+data+"/pid", "--skip-grant-tables", "--skip-networking", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M",
		"--innodb-flush-log-at-trx-commit=2", "--lc-messages-dir="+dir+"/usr/share/mysql", "--character-sets-dir="+dir+"/usr/share/mysql/charsets"), dir+"/log",
		func() bool { _, err := os.Stat(socket); return err == nil })

	client := func(argv ...string) *exec.Cmd {
		cmd := exec.Command(dir+"/clients/usr/bin/"+argv[0], append([]string{"--no-defaults", "--socket=" + socket}, argv[1:]...)...)
		cmd.Env = append(os.Environ(), libraryPath(dir+"/clients"))
		return cmd
	}
	do(t, client("mariadb", "-e", "create database l; create table l.t (id int auto_increment primary key, a int, s varchar(80)) engine=innodb; insert into l.t (a, s) values (0, 'x')"))
	const queries = 2000
	work := burden(t, func() *exec.Cmd {
		return client("mariadb-slap", "--create-schema=l", "--no-drop", "--delimiter=;", "--concurrency=8", fmt.Sprintf("--number-of-queries=%d", queries), "--detach=50",
			"--query=insert into t (a, s) values (floor(rand() * 1000), md5(rand())); select id, crc32(s), length(s) from t order by id desc limit 20; update t set a = a + 1 where id = 1")
	}, func(said string) error {
		if !strings.Contains(said, "Number of clients running queries: 8") {
			return fmt.Errorf("no summary")
		}
		return nil
	})
	cmd := client("mariadb", "-N", "-B", "-n")
	p := talk(t, []string{libraryPath(dir + "/clients")}, cmd.Args...)
	const number, crc = "select 70417764242;", "select crc32('tsugi');"
	before := [][2]string{{number, "70417764242"}, {crc, "4279382087"}, {"select crc32('other');", "3646436640"}}
	first := [][2]string{{number, "70417764243"}, {crc, "42"}, before[2]}
	second := [][2]string{{number, "70417764244"}, before[1], before[2]}

	answers(t, p, "before", before)
	for range cycles {
		intoAll(t, pid, one)
		answers(t, p, "with the first", first)
		intoAll(t, pid, two)
		answers(t, p, "with the second", second)
		outOfAll(t, pid)
		answers(t, p, "out again", before)
	}
	intoAll(t, pid, one)
	work.end()
	answers(t, p, "at the end", first)
	qt.Check(t, qt.Equals(p.ask("select count(*) from information_schema.processlist where command = 'Killed';"), "0"))
	// Each run adds one to a in a third of its queries: none of them was lost.
	sum := p.ask("select a from l.t where id = 1;")
	qt.Check(t, qt.Equals(p.ask("select variable_value from information_schema.global_status where variable_name = 'aborted_connects';"), "0"))
	p.quit()
	qt.Check(t, qt.IsTrue(work.runs > 0))
	t.Logf("%d queries by 8 clients in %d runs, none failed; %s updates of one row", work.runs*queries, work.runs, sum)
}
