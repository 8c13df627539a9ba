// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cve"
)

// year is that of a CVE id, which names the file of its record.
func year(id string) string {
	_, rest, _ := strings.Cut(id, "-")
	y, _, _ := strings.Cut(rest, "-")
	return y
}

func (c *Catalogue) recordsPath(year string) string {
	return filepath.Join(c.dir, "cves", year+".jsonl")
}

// Records returns what is known of CVEs, by id; ids that no feed told of are
// not in it. nil asks for all.
func (c *Catalogue) Records(ids []string) (map[string]cve.Record, error) {
	var years []string
	for _, id := range ids {
		years = append(years, year(id))
	}
	if ids == nil {
		files, err := filepath.Glob(c.recordsPath("[0-9][0-9][0-9][0-9]"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			years = append(years, strings.TrimSuffix(filepath.Base(f), ".jsonl"))
		}
	}
	slices.Sort(years)
	out := make(map[string]cve.Record)
	for _, y := range slices.Compact(years) {
		all, err := c.readYear(y)
		if err != nil {
			return nil, err
		}
		if ids == nil {
			maps.Copy(out, all)
			continue
		}
		for _, id := range ids {
			if r, ok := all[id]; ok {
				out[id] = r
			}
		}
	}
	return out, nil
}

func (c *Catalogue) readYear(y string) (map[string]cve.Record, error) {
	path := c.recordsPath(y)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseYear(path, text)
}

// parseYear reads lines of records.
func parseYear(path string, text []byte) (map[string]cve.Record, error) {
	out := make(map[string]cve.Record)
	n := 0
	for line := range bytes.Lines(text) {
		n++
		var r cve.Record
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			return nil, code.New("TS1213", fmt.Sprintf("%s line %d", path, n), "").With(err)
		}
		if _, twice := out[r.ID]; !cve.ValidID(r.ID) || twice {
			return nil, code.New("TS1213", fmt.Sprintf("%s line %d", path, n), fmt.Sprintf("%.40q is no CVE id, or there twice", r.ID))
		}
		out[r.ID] = r
	}
	return out, nil
}

// addRecords merges records into those on disk and tells how many were new
// and how many changed.
func (c *Catalogue) addRecords(ctx context.Context, records []cve.Record) (added, changed int, err error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer unlock()
	byYear := make(map[string][]cve.Record)
	for _, r := range records {
		byYear[year(r.ID)] = append(byYear[year(r.ID)], r)
	}
	for _, y := range slices.Sorted(maps.Keys(byYear)) {
		have, err := c.readYear(y)
		if err != nil {
			return added, changed, err
		}
		if have == nil {
			have = make(map[string]cve.Record)
		}
		before := maps.Clone(have)
		for _, r := range byYear[y] {
			old := have[r.ID]
			old.ID = r.ID
			have[r.ID] = old.Merge(r)
		}
		text, err := yearText(have)
		if err != nil {
			return added, changed, err
		}
		for id, r := range have {
			old, ok := before[id]
			switch {
			case !ok:
				added++
			case !sameRecord(old, r):
				changed++
			}
		}
		if err := writeFile(c.recordsPath(y), text); err != nil {
			return added, changed, err
		}
	}
	return added, changed, nil
}

func sameRecord(a, b cve.Record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// yearText is one line for each record, in the order of their numbers, so
// that a new record is one new line for git.
func yearText(all map[string]cve.Record) ([]byte, error) {
	ids := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, id := range ids {
		if err := enc.Encode(all[id]); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// validYear tells whether a text is a year that a CVE id may have.
func validYear(y string) bool {
	n, err := strconv.Atoi(y)
	return err == nil && n >= 1999 && n < 10000
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
