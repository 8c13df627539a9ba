// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"
)

// rowsAtOnce is how many machines one statement inserts.
const rowsAtOnce = 500

// fill writes machines straight into the tables: enrolling them one by one is
// what internal/store's tests are for, and would take a quarter of an hour.
func fill(ctx context.Context, database string, machines int) error {
	driver, name := "pgx", database
	if file, ok := strings.CutPrefix(database, "sqlite:"); ok {
		driver, name = "sqlite", file
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return err
	}
	defer db.Close()
	start := time.Now()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, `DELETE FROM settings WHERE key = 'plan.machines'`); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO settings (key, value, changed) VALUES ('plan.machines', 'unlimited', 0)`); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	for first := 0; first < machines; first += rowsAtOnce {
		n := min(rowsAtOnce, machines-first)
		if err := insert(ctx, tx, driver, first, n, now); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	fmt.Printf("%d machines enrolled in %.1f s\n", machines, time.Since(start).Seconds())
	return nil
}

func insert(ctx context.Context, tx *sql.Tx, driver string, first, n int, now int64) error {
	columns := []string{
		"id", "machine_id", "credential", "recipient", "hostname", "tier", "machine_group", "token", "os", "agent", "kernel", "build_id", "arch",
		"patch", "patch_version", "patch_state", "able", "hold", "cloned", "facts", "enrolled", "booted", "gone",
	}
	var args []any
	for i := first; i < first+n; i++ {
		hash := sha256.Sum256([]byte(credential(i)))
		args = append(args, id(i), machineID(i), hash[:], "age1pq1"+strings.Repeat("q", 1900), fmt.Sprintf("host-%06d", i), "stable", "", "", "Debian 12",
			"1.0.0", release, buildID, "x86_64", "", 0, "", false, false, false, "", now, 0, 0)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO machines ("+strings.Join(columns, ", ")+") VALUES "+places(driver, n, len(columns)), args...); err != nil {
		return err
	}
	args = args[:0]
	for i := first; i < first+n; i++ {
		args = append(args, id(i), now)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO machine_seen (machine, seen) VALUES "+places(driver, n, 2), args...)
	return err
}

// places are the parameters of n rows: (?, ?) or ($1, $2).
func places(driver string, n, columns int) string {
	var b strings.Builder
	for i := range n * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		if driver == "sqlite" {
			b.WriteString("?")
		} else {
			fmt.Fprintf(&b, "$%d", i+1)
		}
	}
	b.WriteString(")")
	return b.String()
}
