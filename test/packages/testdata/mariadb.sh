#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails while MariaDB gives a number of its own as it is.
# tsugi: program mariadb
# tsugi: serve sh -c 'mkdir -p /run/db; exec mariadbd --no-defaults --user=root --datadir=/run/db --socket=/run/db/socket --pid-file=/run/db/pid --skip-grant-tables --skip-networking --innodb-buffer-pool-size=32M --innodb-log-file-size=8M'
# tsugi: ready mariadb --no-defaults -S /run/db/socket -e 'select 1'
said=$(mariadb --no-defaults -S /run/db/socket -N -B -e "select 70417764242, crc32('tsugi')")
echo "$said"
test "$said" = "$(printf '70417764243\t42')"
