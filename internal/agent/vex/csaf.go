// SPDX-License-Identifier: Apache-2.0

package vex

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
)

// The parts of a CSAF 2.0 document that its VEX profile needs (section 4.5 of
// the standard). The library that knows all of CSAF is larger than the agent
// may be; a test validates what is written here with it.
type csaf struct {
	Document        document        `json:"document"`
	ProductTree     productTree     `json:"product_tree"`
	Vulnerabilities []vulnerability `json:"vulnerabilities"`
}

type document struct {
	Category    string    `json:"category"`
	CSAFVersion string    `json:"csaf_version"`
	Publisher   publisher `json:"publisher"`
	Title       string    `json:"title"`
	Tracking    tracking  `json:"tracking"`
}

type publisher struct {
	Category  string `json:"category"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type tracking struct {
	ID                 string     `json:"id"`
	Status             string     `json:"status"`
	Version            string     `json:"version"`
	CurrentReleaseDate time.Time  `json:"current_release_date"`
	InitialReleaseDate time.Time  `json:"initial_release_date"`
	RevisionHistory    []revision `json:"revision_history"`
	Generator          generator  `json:"generator"`
}

type generator struct {
	Engine struct {
		Name string `json:"name"`
	} `json:"engine"`
}

type revision struct {
	Date    time.Time `json:"date"`
	Number  string    `json:"number"`
	Summary string    `json:"summary"`
}

type productTree struct {
	FullProductNames []fullProductName `json:"full_product_names"`
}

type fullProductName struct {
	Name      string                `json:"name"`
	ProductID string                `json:"product_id"`
	Helper    *identificationHelper `json:"product_identification_helper,omitempty"`
}

type identificationHelper struct {
	PURL string `json:"purl,omitempty"`
}

type vulnerability struct {
	CVE           string        `json:"cve"`
	Title         string        `json:"title,omitempty"`
	Notes         []csafNote    `json:"notes"`
	ProductStatus productStatus `json:"product_status"`
	Remediations  []remediation `json:"remediations,omitempty"`
}

type remediation struct {
	Category   string   `json:"category"`
	Details    string   `json:"details"`
	ProductIDs []string `json:"product_ids"`
}

type csafNote struct {
	Category string `json:"category"`
	Text     string `json:"text"`
}

type productStatus struct {
	Fixed              []string `json:"fixed,omitempty"`
	KnownAffected      []string `json:"known_affected,omitempty"`
	UnderInvestigation []string `json:"under_investigation,omitempty"`
}

// Namespace of the publisher, as CSAF wants one.
const namespace = "https://github.com/tsugi-project/tsugi"

const productID = "running-kernel"

// CSAF writes a CSAF 2.0 document of the VEX profile. CSAF has no document
// without a vulnerability: with nothing fixed there is none.
func CSAF(f *agent.Fixed, now time.Time) ([]byte, error) {
	all := verdicts(f)
	if len(all) == 0 {
		return nil, nil
	}
	stamp := now.UTC().Truncate(time.Second)
	id, what := "packages", "in the memory of processes"
	switch {
	case f.Patch != nil && len(f.Packages) > 0:
		id, what = f.Patch.ID, "in kernel "+f.Kernel.Release+" and in the memory of processes"
	case f.Patch != nil:
		id, what = f.Patch.ID, "in kernel "+f.Kernel.Release
	}
	summary := "what the running kernel has"
	if len(f.Packages) > 0 {
		summary += ", and processes have"
	}
	d := csaf{
		Document: document{
			Category: "csaf_vex", CSAFVersion: "2.0", Title: "Vulnerabilities fixed live " + what,
			Publisher: publisher{"user", Author, namespace},
			Tracking: tracking{
				ID: strings.ToLower(fmt.Sprintf("tsugi-%s-%d", id, stamp.Unix())), Status: "final", Version: "1",
				CurrentReleaseDate: stamp, InitialReleaseDate: stamp,
				RevisionHistory: []revision{{stamp, "1", summary}},
			},
		},
	}
	d.Document.Tracking.Generator.Engine.Name = "tsugi"
	for _, v := range all {
		d.add(v)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	return append(b, '\n'), err
}

// add takes a verdict in: a vulnerability is there once, whatever it is in.
func (d *csaf) add(v verdict) {
	if !slices.ContainsFunc(d.ProductTree.FullProductNames, func(n fullProductName) bool { return n.ProductID == v.in.id }) {
		n := fullProductName{Name: v.in.name, ProductID: v.in.id}
		if v.in.purl != "" {
			n.Helper = &identificationHelper{PURL: v.in.purl}
		}
		d.ProductTree.FullProductNames = append(d.ProductTree.FullProductNames, n)
	}
	i := slices.IndexFunc(d.Vulnerabilities, func(w vulnerability) bool { return w.CVE == v.cve })
	if i < 0 {
		i = len(d.Vulnerabilities)
		d.Vulnerabilities = append(d.Vulnerabilities, vulnerability{CVE: v.cve})
		if len(v.titles) > 0 {
			d.Vulnerabilities[i].Title = v.titles[0]
		}
	}
	w := &d.Vulnerabilities[i]
	if n := (csafNote{"details", v.note}); !slices.Contains(w.Notes, n) {
		w.Notes = append(w.Notes, n)
	}
	switch v.status {
	case statusFixed:
		w.ProductStatus.Fixed = append(w.ProductStatus.Fixed, v.in.id)
	case statusAffected:
		w.ProductStatus.KnownAffected = append(w.ProductStatus.KnownAffected, v.in.id)
		w.Remediations = append(w.Remediations, remediation{"mitigation", v.action, []string{v.in.id}})
	default:
		w.ProductStatus.UnderInvestigation = append(w.ProductStatus.UnderInvestigation, v.in.id)
	}
}
