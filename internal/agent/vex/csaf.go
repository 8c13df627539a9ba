// SPDX-License-Identifier: Apache-2.0

package vex

import (
	"encoding/json"
	"fmt"
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
}

type csafNote struct {
	Category string `json:"category"`
	Text     string `json:"text"`
}

type productStatus struct {
	Fixed              []string `json:"fixed,omitempty"`
	UnderInvestigation []string `json:"under_investigation,omitempty"`
}

// Namespace of the publisher, as CSAF wants one.
const namespace = "https://github.com/tsugi-project/tsugi"

const productID = "running-kernel"

// CSAF writes a CSAF 2.0 document of the VEX profile. CSAF has no document
// without a vulnerability: with nothing fixed there is an error.
func CSAF(f *agent.Fixed, now time.Time) ([]byte, error) {
	all := vulns(f)
	if len(all) == 0 {
		return nil, nil
	}
	stamp := now.UTC().Truncate(time.Second)
	d := csaf{
		Document: document{
			Category: "csaf_vex", CSAFVersion: "2.0", Title: "Vulnerabilities fixed live in kernel " + f.Kernel.Release,
			Publisher: publisher{"user", Author, namespace},
			Tracking: tracking{
				ID: strings.ToLower(fmt.Sprintf("tsugi-%s-%d", f.Patch.ID, stamp.Unix())), Status: "final", Version: "1",
				CurrentReleaseDate: stamp, InitialReleaseDate: stamp,
				RevisionHistory: []revision{{stamp, "1", "what the running kernel has"}},
			},
		},
		ProductTree: productTree{FullProductNames: []fullProductName{{Name: "Linux kernel " + f.Kernel.Release + " build-id " + f.Kernel.BuildID, ProductID: productID}}},
	}
	d.Document.Tracking.Generator.Engine.Name = "tsugi"
	if p := Product(f); p != "" {
		d.ProductTree.FullProductNames[0].Helper = &identificationHelper{PURL: p}
	}
	for _, v := range all {
		w := vulnerability{CVE: v.id, Notes: []csafNote{{"details", note(f, v)}}, ProductStatus: productStatus{Fixed: []string{productID}}}
		if v.doubtful {
			w.ProductStatus = productStatus{UnderInvestigation: []string{productID}}
		}
		if len(v.titles) > 0 {
			w.Title = v.titles[0]
		}
		d.Vulnerabilities = append(d.Vulnerabilities, w)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	return append(b, '\n'), err
}
