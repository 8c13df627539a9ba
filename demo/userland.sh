#!/bin/bash
# Libraries and daemons: a web server with Debian's libssl3 and a PostgreSQL
# server, both as Debian ships them and under load, get live patches while they
# work, and give them back.
#
#   libssl3     three CVEs and a way to fill the memory of any TLS server, fixed
#               by files of the upstream release that the archive has, too; two
#               of them are shown by programs that use them
#   PostgreSQL  a change of two functions that pgbench or anybody calls: no source
#               of a later version is in the archive to take one from
#
# It ends with an error when a request or a transaction fails, a connection is
# lost, or what should be fixed is not.
#
# Needs root, the programs in bin/ (make build) and what test/deps.sh installs:
# use make demo-userland. Results stay in demo/out/userland.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=demo/versions.env
source demo/versions.env
# shellcheck source=demo/story.sh
source demo/story.sh

tsugictl=${TSUGICTL:-bin/tsugictl}
out=$PWD/demo/out/userland
short=demo/out/userland # for what is shown
libssl=debian:libssl3=$LIBSSL_VERSION
postgres=debian:postgresql-15=$POSTGRES_VERSION
[ "$(id -u)" = 0 ] || { echo "Processes of others are for root: sudo make demo-userland" >&2; exit 1; }

# Live patches go into all processes that map a file, so the demo has processes
# of its own, as a container has: no other process of the machine is there, and
# none is touched. All of them end with this one.
if [ "${1:-}" != inside ]; then
	exec unshare --pid --fork --kill-child --mount-proc "$0" inside
fi
trap 'exit 130' INT TERM # the first process of a container hears of no other signals

rm -rf "$out"
mkdir -p "$out"
chmod 755 "$out"
state=(--dir "$out/state" --config "$out/none.yaml" --socket "$out/agent.sock")
tsugi() {
	say tsugi "$@"
	bin/tsugi "${state[@]}" "$@"
}

free_port() {
	local p
	while p=$((20000 + RANDOM % 20000)); (: </dev/tcp/127.0.0.1/"$p") 2>/dev/null; do :; done
	echo "$p"
}

targets() {
	tell "Each package is compiled again from its source, where and as Debian compiles it."
	tell "What comes out is what is shipped, or it is compared function by function."
	run "$tsugictl" target add "$libssl"
	run "$tsugictl" target add "$postgres"
}

# original SOURCE=VERSION: the upstream source of a source package, by package
# lists of the demo's own: those of the machine may have none of sources.
original() {
	local apt=$out/apt f
	local opt=(-q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$apt/etc" -o "Dir::State::lists=$apt/lists"
		-o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
	if [ ! -d "$apt" ]; then
		mkdir -p "$apt"/{etc,lists/partial,cache/archives/partial}
		for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
			[ ! -f "$f" ] || sed -n 's/^deb /deb-src /p' "$f" >>"$apt/etc/demo.list"
		done
		for f in /etc/apt/sources.list.d/*.sources; do
			[ ! -f "$f" ] || sed 's/^Types:.*/Types: deb-src/' "$f" >"$apt/etc/${f##*/}"
		done
		apt-get "${opt[@]}" update >"$out/apt.log" 2>&1 || true # sources of other archives than Debian's may fail
	fi
	(cd "$apt" && apt-get "${opt[@]}" source --download-only --tar-only "$1" >>"$out/apt.log" 2>&1) || {
		tail -5 "$out/apt.log"
		return 1
	}
}

# fix NAME FILE...: what the files have that the older ones lack.
fix() {
	local name=$1 file
	shift
	for file in "$@"; do
		(cd "$out/openssl" && diff -u "a/$file" "b/$file") >>"$out/$name.patch" || [ $? = 1 ]
	done
}

fixes() {
	original "openssl=$LIBSSL_VERSION"
	original "openssl=$LIBSSL_FIXED"
	original "postgresql-15=$POSTGRES_VERSION"
	mkdir -p "$out"/{openssl,postgresql}/{a,b}
	tar -xzf "$out/apt/openssl_${LIBSSL_VERSION%-*}.orig.tar.gz" -C "$out/openssl/a" --strip-components 1
	tar -xzf "$out/apt/openssl_${LIBSSL_FIXED%-*}.orig.tar.gz" -C "$out/openssl/b" --strip-components 1
	fix CVE-2026-63072 crypto/cms/cms_kari.c
	fix CVE-2026-63074 crypto/cmp/cmp_vfy.c
	fix CVE-2026-63076 crypto/cmp/cmp_protect.c
	fix hollowbyte ssl/statem/statem.c ssl/statem/statem_lib.c
	local src=$out/postgresql file
	for file in int.c version.c; do
		tar -xjf "$out"/apt/postgresql-15_*.orig.tar.bz2 -C "$src/a" --strip-components 1 --wildcards "*/src/backend/utils/adt/$file"
	done
	cp -r "$src/a/." "$src/b"
	sed -i '/^int4pl(/,/^}/ s/errmsg("integer out of range")/&, errdetail("%d + %d is too much.", arg1, arg2)/' "$src/b/src/backend/utils/adt/int.c"
	sed -i 's/cstring_to_text(PG_VERSION_STR)/cstring_to_text(PG_VERSION_STR ", patched while it ran")/' "$src/b/src/backend/utils/adt/version.c"
	(cd "$src" && diff -u -r a b >"$out/postgres.patch") || [ $? = 1 ]
}

build() {
	tell "Four fixes of OpenSSL ${LIBSSL_FIXED%-*}, file by file, that Debian's ${LIBSSL_VERSION} lacks, and a change of PostgreSQL."
	fixes
	run "$tsugictl" build $short/CVE-2026-630{72,74,76}.patch $short/hollowbyte.patch -t "$libssl" -o $short/libssl3.tsugi
	run "$tsugictl" build $short/postgres.patch -t "$postgres" -o $short/postgres.tsugi
}

# unpack PACKAGE=VERSION: as Debian ships it, into a directory of its own.
unpack() {
	mkdir -p "$out/deb" "$out/${1%%=*}"
	(cd "$out/deb" && apt-get -q download "$1" >/dev/null 2>&1)
	dpkg-deb -x "$out/deb/${1%%=*}"_*.deb "$out/${1%%=*}"
}

# talk NAME COMMAND...: begins a program that ask NAME puts questions to.
declare -A question answer
talk() {
	local name=$1 in out_
	shift
	mkfifo "$out/$name.in" "$out/$name.out"
	"$@" <"$out/$name.in" >"$out/$name.out" &
	exec {in}>"$out/$name.in" {out_}<"$out/$name.out"
	question[$name]=$in answer[$name]=$out_
}

# ask NAME [QUESTION]: a line there, a line back.
ask() {
	local line
	echo "${2:-}" >&"${question[$1]}"
	read -r -t 60 -u "${answer[$1]}" line
	echo "  $line"
}

# is WORD NAME COMMAND...: a line of a reproducer, which has to begin with the word.
is() {
	local word=$1 name=$2 line
	shift 2
	line=$("$@")
	line=${line#  }
	printf '  %-26s %s\n' "$name" "$line"
	[ "${line%%:*}" = "$word" ] || { echo "  it should be $word" && return 1; }
}

# both WORD: what the running programs show of their libraries.
both() {
	is "$1" "nginx" "$out/unfinished" -address "127.0.0.1:$port" -server "$(cat "$out/nginx.pid")"
	is "$1" "a reader of CMP messages" ask show
}

web() {
	tell "Debian's nginx with Debian's libssl3 $LIBSSL_VERSION. Eight clients keep asking: four over connections that stay,"
	tell "four with a handshake for each request. Beside it, a program that reads CMP messages with the same library."
	unpack "libssl3=$LIBSSL_VERSION"
	unpack nginx
	libs=$out/libssl3/usr/lib/x86_64-linux-gnu
	port=$(free_port)
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$out/key.pem" -out "$out/cert.pem" -days 1 -subj /CN=localhost 2>/dev/null
	cat >"$out/nginx.conf" <<-EOF
		daemon off; worker_processes 2; pid $out/nginx.pid; error_log $out/nginx.log;
		events { worker_connections 1024; }
		http {
			access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
			client_body_temp_path $out/t1; proxy_temp_path $out/t2; fastcgi_temp_path $out/t3; uwsgi_temp_path $out/t4; scgi_temp_path $out/t5;
			server {
				listen 127.0.0.1:$port ssl; ssl_certificate $out/cert.pem; ssl_certificate_key $out/key.pem;
				location / { return 200 "served by the library that was there before\n"; }
			}
		}
	EOF
	# With the limit, memory that is given back goes to the system at once, so
	# that the reproducer sees what there is for its own handshakes.
	MALLOC_MMAP_THRESHOLD_=65536 LD_LIBRARY_PATH=$libs "$out/nginx/usr/sbin/nginx" -p "$out" -c "$out/nginx.conf" -e "$out/nginx.log" &
	until (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do sleep 0.1; done
	go build -trimpath -o "$out" ./demo/userland/load ./demo/userland/unfinished
	talk load "$out/load" -address "127.0.0.1:$port"
	load=$!
	gcc -O1 -o "$out/reproduce" demo/userland/reproduce.c -lcrypto
	talk show env LD_LIBRARY_PATH="$libs" "$out/reproduce"
	sleep 2
	both vulnerable
	ask load "load on nginx"
}

sql() { setpriv --reuid postgres --regid postgres --clear-groups "$pgbin/psql" -h "$out/pg" -p "$pgport" -d postgres -qAt "$@"; }

database() {
	tell "Debian's PostgreSQL $POSTGRES_VERSION, with eight clients of pgbench."
	pgbin=/usr/lib/postgresql/15/bin
	if [ "$(dpkg-query -W -f '${Version}' postgresql-15 2>/dev/null)" != "$POSTGRES_VERSION" ]; then
		unpack "postgresql-15=$POSTGRES_VERSION"
		pgbin=$out/postgresql-15$pgbin
	fi
	pgport=$(free_port)
	install -d -o postgres -g postgres -m 700 "$out/pg"
	local as=(setpriv --reuid postgres --regid postgres --clear-groups)
	"${as[@]}" "$pgbin/initdb" -D "$out/pg/data" -A trust >"$out/initdb.log"
	"${as[@]}" "$pgbin/postgres" -D "$out/pg/data" -k "$out/pg" -p "$pgport" -c listen_addresses= -c shared_buffers=64MB >"$out/postgres.log" 2>&1 &
	until sql -c 'select 1' >/dev/null 2>&1; do sleep 0.2; done
	"${as[@]}" "$pgbin/pgbench" -h "$out/pg" -p "$pgport" -i -q -s 5 postgres 2>"$out/pgbench.init"
	"${as[@]}" "$pgbin/pgbench" -h "$out/pg" -p "$pgport" -c 8 -j 2 -P 1 -T 100000 postgres >"$out/pgbench.out" 2>"$out/pgbench.log" &
	bench=$!
	sleep 3
	behaviour
	transactions
}

# behaviour shows what the two functions do, in a connection that is new.
behaviour() {
	printf '  version():       %s\n' "$(sql -c "select regexp_replace(version(), ' on .*, compiled by [^,]*, 64-bit', ' …')")"
	printf '  2147483647 + 1:  %s\n' "$(sql -c 'select 2147483647 + x from (values (1)) t (x)' 2>&1 | paste -s -d ' ')"
}

# transactions tells how pgbench does, and ends the demo when one has failed.
transactions() {
	if ! kill -0 "$bench" || grep -v '^progress' "$out/pgbench.log" | grep -qi 'error\|fail\|abort'; then
		tail "$out/pgbench.log"
		return 1
	fi
	grep '^progress' "$out/pgbench.log" | awk '{ failed += $(NF-1) } END { if (failed) exit 1 }'
	echo "  load on PostgreSQL: $(sql -c 'select count(*) from pgbench_history') transactions, 0 failed"
}

# apply_all tries again what is busy, as tsugi keep does.
apply_all() {
	local file n code
	tell "First: where would it go?"
	tsugi apply --local $short/libssl3.tsugi --dry-run
	for file in libssl3 postgres; do
		for n in 1 2 3 4 5; do
			code=0
			tsugi apply --local "$short/$file.tsugi" || code=$?
			if [ "$code" != 2 ] || [ "$n" = 5 ]; then break; fi
			tell "A process was busy or had no processor: once more."
		done
		[ "$code" = 0 ]
	done
}

fixed() {
	both fixed
	ask load "load on nginx"
	behaviour
	transactions
}

newcomers() {
	say tsugi keep "&"
	bin/tsugi "${state[@]}" keep >"$out/keep.log" 2>&1 &
	sleep 2
	local start=$EPOCHREALTIME line=
	talk new env LD_LIBRARY_PATH="$libs" "$out/reproduce"
	until line=$(ask new) && [[ $line = *fixed* ]] || [ "$(bc <<<"$EPOCHREALTIME - $start > 10")" = 1 ]; do sleep 0.02; done
	is fixed "a new reader of them" echo "$line"
	tell "That was $(bc <<<"($EPOCHREALTIME - $start) * 1000 / 1") ms after its start."
	tsugi status --processes
}

back() {
	tsugi revert "$libssl"
	tsugi revert "$postgres"
	both vulnerable
	behaviour
	transactions
	kill -INT "$bench"
	ask load end # it says whether all went well
	wait "$load"
	echo "  No request and no transaction has failed, no connection was lost."
}

stage "1  The packages, as Debian ships and builds them" targets
stage "2  Fixes become live patches" build
stage "3  A web server under load, and the vulnerability" web
stage "4  A database under load" database
stage "5  Into the processes that run" apply_all
stage "6  The same processes, the same connections" fixed
stage "7  Processes that start later" newcomers
stage "8  And out again" back
ending
