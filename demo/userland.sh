#!/bin/bash
# Libraries and daemons: a web server with Debian's libssl3 and a PostgreSQL
# server, both as Debian ships them and under load, get live patches while they
# work, and give them back.
#
#   libssl3     the fix of CVE-2026-45445 from Debian's next source package; a
#               program that shows the vulnerability runs all the time
#   PostgreSQL  a change of two functions that pgbench calls all the time: no
#               source of a later version is in the archive to take one from
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
libssl=debian:libssl3=$LIBSSL_VERSION
postgres=debian:postgresql-15=$POSTGRES_VERSION
[ "$(id -u)" = 0 ] || { echo "Processes of others are for root: sudo make demo-userland" >&2; exit 1; }

rm -rf "$out"
mkdir -p "$out"
chmod 755 "$out"
tsugi() { run bin/tsugi --dir "$out/state" --config "$out/none.yaml" --socket "$out/agent.sock" "$@"; }

pids=()
stop() {
	local p
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || true; done
}
trap stop EXIT

free_port() {
	local p
	while p=$((20000 + RANDOM % 20000)); (: </dev/tcp/127.0.0.1/"$p") 2>/dev/null; do :; done
	echo "$p"
}

targets() {
	run "$tsugictl" target add "$libssl"
	run "$tsugictl" target add "$postgres"
}

# source PACKAGE=VERSION: its source package, by package lists of the demo's own:
# those of the machine may have none of sources.
source_package() {
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
		apt-get "${opt[@]}" update >"$out/apt.log" 2>&1
	fi
	(cd "$apt" && apt-get "${opt[@]}" source --download-only "$1" >>"$out/apt.log" 2>&1)
}

# fixes makes the two diffs: one is a patch of Debian's package, one is a change
# of two lines in the target's own source.
fixes() {
	source_package "openssl=$LIBSSL_FIXED"
	tar -xJOf "$out/apt/openssl_$LIBSSL_FIXED.debian.tar.xz" \
		debian/patches/Apply-the-buffered-IV-on-the-AES-OCB-EVP_Cipher-path.patch |
		sed '/^diff --git a\/test\//,$d' >"$out/CVE-2026-45445.patch"
	source_package "postgresql-15=$POSTGRES_VERSION"
	local src=$out/postgresql file
	mkdir -p "$src/a" "$src/b"
	for file in int.c version.c; do
		tar -xjf "$out"/apt/postgresql-15_*.orig.tar.bz2 -C "$src/a" --strip-components 1 --wildcards "*/src/backend/utils/adt/$file"
	done
	cp -r "$src/a/." "$src/b"
	sed -i '/^int4pl(/,/^}/ s/errmsg("integer out of range")/&, errdetail("%d + %d is too much.", arg1, arg2)/' "$src/b/src/backend/utils/adt/int.c"
	sed -i 's/cstring_to_text(PG_VERSION_STR)/cstring_to_text(PG_VERSION_STR ", patched while it ran")/' "$src/b/src/backend/utils/adt/version.c"
	(cd "$src" && diff -u -r a b >"$out/postgres.patch") || [ $? = 1 ]
}

build() {
	fixes
	run "$tsugictl" build "$out/CVE-2026-45445.patch" -t "$libssl" -o "$out/libssl3.tsugi"
	run "$tsugictl" build "$out/postgres.patch" -t "$postgres" -o "$out/postgres.tsugi"
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
	pids+=($!)
	exec {in}>"$out/$name.in" {out_}<"$out/$name.out"
	question[$name]=$in answer[$name]=$out_
}

# ask NAME [QUESTION]: a line there, a line back.
ask() {
	local line
	echo "${2:-}" >&"${question[$1]}"
	read -r -t 30 -u "${answer[$1]}" line
	echo "  $line"
}

web() {
	unpack "libssl3=$LIBSSL_VERSION"
	unpack nginx
	libs=$out/libssl3/usr/lib/x86_64-linux-gnu
	port=$(free_port)
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$out/key.pem" -out "$out/cert.pem" -days 1 -subj /CN=localhost 2>/dev/null
	cat >"$out/nginx.conf" <<-EOF
		daemon off; worker_processes 2; pid $out/nginx.pid; error_log $out/nginx.log;
		events { worker_connections 256; }
		http {
			access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
			client_body_temp_path $out/t1; proxy_temp_path $out/t2; fastcgi_temp_path $out/t3; uwsgi_temp_path $out/t4; scgi_temp_path $out/t5;
			server {
				listen 127.0.0.1:$port ssl; ssl_certificate $out/cert.pem; ssl_certificate_key $out/key.pem;
				location / { return 200 "served by the library that was there before\n"; }
			}
		}
	EOF
	LD_LIBRARY_PATH=$libs "$out/nginx/usr/sbin/nginx" -p "$out" -c "$out/nginx.conf" -e "$out/nginx.log" &
	pids+=($!)
	until (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do sleep 0.1; done
	go build -trimpath -o "$out/load" ./demo/userland/load
	talk load "$out/load" -address "127.0.0.1:$port"
	load=${pids[-1]}
	gcc -O1 -Wno-deprecated-declarations -o "$out/reproduce" demo/userland/reproduce.c -lcrypto
	talk show env LD_LIBRARY_PATH="$libs" "$out/reproduce"
	sleep 2
	ask load "nginx, before"
	ask show
}

sql() { setpriv --reuid postgres --regid postgres --clear-groups "$pgbin/psql" -h "$out/pg" -p "$pgport" -d postgres -qAt "$@"; }

database() {
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
	pids+=($!)
	until sql -c 'select 1' >/dev/null 2>&1; do sleep 0.2; done
	"${as[@]}" "$pgbin/pgbench" -h "$out/pg" -p "$pgport" -i -q -s 5 postgres 2>"$out/pgbench.init"
	"${as[@]}" "$pgbin/pgbench" -h "$out/pg" -p "$pgport" -c 8 -j 2 -P 5 -T 100000 postgres >"$out/pgbench.out" 2>"$out/pgbench.log" &
	bench=$!
	pids+=("$bench")
	sleep 3
	behaviour
}

# behaviour shows what the two functions do, in a connection that is new.
behaviour() {
	echo "  version(): $(sql -c 'select version()')"
	sql -c 'select 2147483647 + x from (values (1)) t (x)' 2>&1 | sed 's/^/  /' || true
	kill -0 "$bench" # it ends when a transaction fails
}

# 2 says that a process was busy: it is tried again, at the latest by tsugi keep.
apply() {
	local file
	for file in libssl3 postgres; do
		tsugi apply --local "$out/$file.tsugi" || [ $? = 2 ]
	done
}

fixed() {
	sleep 2
	ask load "nginx, patched meanwhile"
	ask show
	behaviour
}

newcomers() {
	say bin/tsugi keep
	bin/tsugi --dir "$out/state" --config "$out/none.yaml" --socket "$out/agent.sock" keep >"$out/keep.log" 2>&1 &
	pids+=($!)
	sleep 2
	talk new env LD_LIBRARY_PATH="$libs" "$out/reproduce"
	sleep 0.1
	echo "  a process that began 0.1 s ago:"
	ask new
	tsugi status --processes || [ $? = 2 ]
}

back() {
	tsugi revert "$libssl" || [ $? = 2 ]
	tsugi revert "$postgres" || [ $? = 2 ]
	ask show
	behaviour
	sleep 1
	ask load "nginx, to the end"
	echo end >&"${question[load]}" # it says whether all went well
	wait "$load"
	kill -INT "$bench"
	grep -h '^progress' "$out/pgbench.log" | tail -3 | sed 's/^/  /'
	if grep -v '^progress' "$out/pgbench.log" | grep -qi 'error\|fail\|abort'; then
		cat "$out/pgbench.log"
		exit 1
	fi
	echo "  no request and no transaction has failed"
}

stage "1  The packages, as Debian ships and builds them" targets
stage "2  Fixes become live patches of files by their build-id" build
stage "3  A web server under load, and the vulnerability" web
stage "4  A database under load" database
stage "5  Into the processes that run" apply
stage "6  The same connections, the same processes" fixed
stage "7  Processes that start later" newcomers
stage "8  And out again" back
ending
