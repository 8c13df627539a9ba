#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails while PostgreSQL tells of an overflow in the words that it was shipped with.
# tsugi: program /usr/lib/postgresql/15/bin/psql
# tsugi: serve su -s /bin/sh nobody -c 'bin=/usr/lib/postgresql/15/bin; test -d db/base || $bin/initdb -D db -A trust -N; exec $bin/postgres -D db -k /tmp -c listen_addresses= -c fsync=off'
# tsugi: ready psql -h /tmp -U nobody -c 'select 1' postgres
psql -h /tmp -U nobody -X -A -t -q -c 'select 2147483647 + x from (values (1)) t (x)' postgres >said 2>&1
cat said
grep -q 'out of range, change 1' said
