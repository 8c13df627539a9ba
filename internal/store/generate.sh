#!/bin/bash
# Writes package query from migrations/ and queries/ with sqlc, and the digest
# of what it was made from, which a test compares (query/source.sha256).
set -euo pipefail
cd "$(dirname "$0")"

version=v1.31.1
sqlc=${SQLC:-$(command -v sqlc || true)}
if [ -z "$sqlc" ]; then
	# Builds once, in minutes: its parser of PostgreSQL's SQL is C.
	CGO_ENABLED=1 go install github.com/sqlc-dev/sqlc/cmd/sqlc@$version
	sqlc=$(go env GOPATH)/bin/sqlc
fi
[ "$("$sqlc" version)" = "$version" ] || { echo "sqlc $version is needed, $sqlc is $("$sqlc" version)" >&2; exit 1; }

rm -f query/*.sql.go query/db.go query/models.go
"$sqlc" generate
for f in query/*.sql.go query/db.go query/models.go; do
	{ printf '// SPDX-License-Identifier: Apache-2.0\n\n'; cat "$f"; } >"$f.new"
	mv "$f.new" "$f"
done
cat sqlc.yaml migrations/*.sql queries/*.sql | sha256sum | cut -d' ' -f1 >query/source.sha256
