// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// MaxFeed is the length of the longest feed text that is read at once. CISA's
// whole catalogue has 2 MB, a CVE record some kilobytes.
const MaxFeed = 64 << 20

// Read reads the text of a feed: one CVE record, one OSV record, an array of
// either, or the KEV catalogue; which it is, it finds out. Records that are
// of no CVE (an OSV record of another database without an alias) are left
// out. Errors: TS1213.
func Read(name string, text []byte) ([]Record, error) {
	if len(text) > MaxFeed {
		return nil, code.New("TS1213", name, fmt.Sprintf("it is longer than %d MiB", MaxFeed>>20))
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if t := bytes.TrimLeft(text, " \t\r\n"); len(t) > 0 && t[0] == '[' {
		var all []json.RawMessage
		if err := one(text, &all); err != nil {
			return nil, code.New("TS1213", name, "").With(err)
		}
		var out []Record
		for i, raw := range all {
			rs, err := Read(fmt.Sprintf("%s record %d", name, i+1), raw)
			if err != nil {
				return nil, err
			}
			out = append(out, rs...)
		}
		return out, nil
	}
	var kind struct {
		DataType        string          `json:"dataType"`
		Vulnerabilities json.RawMessage `json:"vulnerabilities"`
		SchemaVersion   string          `json:"schema_version"`
		Modified        string          `json:"modified"`
	}
	if err := one(text, &kind); err != nil {
		return nil, code.New("TS1213", name, "").With(err)
	}
	var out []Record
	var err error
	switch {
	case kind.DataType == "CVE_RECORD":
		out, err = readCVE(text)
	case kind.Vulnerabilities != nil:
		out, err = readKEV(kind.Vulnerabilities)
	case kind.SchemaVersion != "" || kind.Modified != "":
		out, err = readOSV(text)
	default:
		err = errors.New("neither a CVE record, an OSV record nor the KEV catalogue")
	}
	if err != nil {
		return nil, code.New("TS1213", name, "").With(err)
	}
	for i := range out {
		out[i].order()
	}
	return out, nil
}

// one decodes exactly one JSON value.
func one(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON value")
	}
	return nil
}

// container is the part of a CVE record that a CNA or an ADP wrote.
type container struct {
	Title        string `json:"title"`
	Descriptions []struct {
		Lang  string `json:"lang"`
		Value string `json:"value"`
	} `json:"descriptions"`
	Metrics []struct {
		V40 *metric `json:"cvssV4_0"`
		V31 *metric `json:"cvssV3_1"`
		V30 *metric `json:"cvssV3_0"`
		Any *struct {
			Type string `json:"type"`
		} `json:"other"`
	} `json:"metrics"`
	Affected []struct {
		ProgramFiles []string `json:"programFiles"`
		Versions     []struct {
			Version     string `json:"version"`
			LessThan    string `json:"lessThan"`
			Status      string `json:"status"`
			VersionType string `json:"versionType"`
		} `json:"versions"`
	} `json:"affected"`
}

type metric struct {
	Vector string `json:"vectorString"`
}

func readCVE(text []byte) ([]Record, error) {
	var x struct {
		Metadata struct {
			ID        string `json:"cveId"`
			State     string `json:"state"`
			Published string `json:"datePublished"`
		} `json:"cveMetadata"`
		Containers struct {
			CNA container   `json:"cna"`
			ADP []container `json:"adp"`
		} `json:"containers"`
	}
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, err
	}
	if !ValidID(x.Metadata.ID) {
		return nil, fmt.Errorf("CVE id %.60q", x.Metadata.ID)
	}
	r := Record{ID: x.Metadata.ID, Published: date(x.Metadata.Published), Rejected: x.Metadata.State == "REJECTED"}
	for _, c := range append([]container{x.Containers.CNA}, x.Containers.ADP...) {
		if r.Title == "" {
			r.Title = line(c.title())
		}
		for _, m := range c.Metrics {
			for _, v := range []*metric{m.V31, m.V30, m.V40} {
				if v != nil {
					r.rate(v.Vector)
				}
			}
			if m.Any != nil && strings.EqualFold(m.Any.Type, "kev") {
				r.Exploited = true
			}
		}
		for _, a := range c.Affected {
			for _, f := range a.ProgramFiles {
				if validPath(f) {
					r.Files = append(r.Files, f)
				}
			}
			for _, v := range a.Versions {
				// The kernel's CNA: from the commit that introduced the flaw to
				// the one that fixed it, a pair for each branch.
				p := Pair{Introduced: commit(v.Version), Fixed: commit(v.LessThan)}
				if v.VersionType == "git" && v.Status == "affected" && (p.Introduced != "" || p.Fixed != "") {
					r.Commits = append(r.Commits, p)
				}
			}
		}
	}
	return []Record{r}, nil
}

func (c container) title() string {
	if c.Title != "" {
		return c.Title
	}
	for _, d := range c.Descriptions {
		if strings.HasPrefix(d.Lang, "en") {
			first, _, _ := strings.Cut(strings.TrimSpace(d.Value), "\n")
			return first
		}
	}
	return ""
}

func commit(s string) string {
	if s = strings.ToLower(s); commitForm.MatchString(s) {
		return s
	}
	return ""
}

func validPath(p string) bool {
	return p != "" && len(p) < 300 && path.Clean(p) == p && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "../") && line(p) == p
}

func readOSV(text []byte) ([]Record, error) {
	var x struct {
		ID        string   `json:"id"`
		Aliases   []string `json:"aliases"`
		Upstream  []string `json:"upstream"`
		Summary   string   `json:"summary"`
		Details   string   `json:"details"`
		Published string   `json:"published"`
		Withdrawn string   `json:"withdrawn"`
		Severity  []struct {
			Type  string `json:"type"`
			Score string `json:"score"`
		} `json:"severity"`
		Affected []struct {
			Severity []struct {
				Type  string `json:"type"`
				Score string `json:"score"`
			} `json:"severity"`
			Ranges []struct {
				Type   string `json:"type"`
				Events []struct {
					Introduced string `json:"introduced"`
					Fixed      string `json:"fixed"`
				} `json:"events"`
			} `json:"ranges"`
		} `json:"affected"`
	}
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, err
	}
	if x.ID == "" {
		return nil, errors.New("an OSV record without an id")
	}
	var ids []string
	for _, id := range slices.Concat([]string{x.ID}, x.Aliases, x.Upstream) {
		if ValidID(id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(x.Details), "\n")
	if x.Summary != "" {
		first = x.Summary
	}
	r := Record{Title: line(first), Published: date(x.Published), Rejected: x.Withdrawn != ""}
	for _, s := range x.Severity {
		if strings.HasPrefix(s.Type, "CVSS_V") {
			r.rate(s.Score)
		}
	}
	for _, a := range x.Affected {
		for _, s := range a.Severity {
			if strings.HasPrefix(s.Type, "CVSS_V") {
				r.rate(s.Score)
			}
		}
		for _, g := range a.Ranges {
			if g.Type != "GIT" {
				continue
			}
			var open Pair
			for _, e := range g.Events {
				if e.Introduced != "" {
					open.Introduced = commit(e.Introduced) // "0" is the beginning
				}
				if c := commit(e.Fixed); c != "" {
					r.Commits = append(r.Commits, Pair{open.Introduced, c})
				}
			}
		}
	}
	var out []Record
	for _, id := range ids {
		one := r
		one.ID, one.Commits = id, slices.Clone(r.Commits)
		out = append(out, one)
	}
	return out, nil
}

func readKEV(text []byte) ([]Record, error) {
	var all []struct {
		ID   string `json:"cveID"`
		Name string `json:"vulnerabilityName"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	out := make([]Record, 0, len(all))
	for i, k := range all {
		if !ValidID(k.ID) {
			return nil, fmt.Errorf("vulnerability %d: CVE id %.60q", i+1, k.ID)
		}
		out = append(out, Record{ID: k.ID, Exploited: true})
	}
	return out, nil
}
