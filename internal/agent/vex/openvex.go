// SPDX-License-Identifier: Apache-2.0

package vex

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
)

// An OpenVEX document, as version 0.2.0 of its specification has it; what is not
// written here is optional there. The library that knows all of it brings more
// along than the agent has room for; a test reads and validates with it what is
// written here.
type openVEX struct {
	Context    string      `json:"@context"`
	ID         string      `json:"@id"`
	Author     string      `json:"author"`
	Role       string      `json:"role"`
	Timestamp  string      `json:"timestamp"`
	Version    int         `json:"version"`
	Tooling    string      `json:"tooling"`
	Statements []statement `json:"statements"`
}

type statement struct {
	Vulnerability   openVulnerability `json:"vulnerability"`
	Products        []openProduct     `json:"products"`
	Status          status            `json:"status"`
	StatusNotes     string            `json:"status_notes,omitempty"`
	ActionStatement string            `json:"action_statement,omitempty"`
}

type openVulnerability struct {
	ID   string `json:"@id"`
	Name string `json:"name"`
}

type openProduct struct {
	ID          string            `json:"@id"`
	Identifiers map[string]string `json:"identifiers,omitempty"`
}

// status is OpenVEX's word for what holds for a vulnerability in a product.
type status string

// There is a fourth, not_affected, which the agent can't know.
const (
	statusFixed              status = "fixed"
	statusAffected           status = "affected"
	statusUnderInvestigation status = "under_investigation"
)

const (
	openVEXContext = "https://openvex.dev/ns/v0.2.0"
	// openVEXPublic is where documents are that have no namespace of their own.
	openVEXPublic = "https://openvex.dev/docs/public/vex-"
)

// OpenVEX writes an OpenVEX document.
func OpenVEX(f *agent.Fixed, now time.Time) ([]byte, error) {
	doc := openVEX{
		Context: openVEXContext, Author: Author, Role: "Machine", Version: 1,
		Timestamp: now.UTC().Format(time.RFC3339), Tooling: "tsugi cves --format openvex",
		Statements: []statement{},
	}
	for _, v := range verdicts(f) {
		doc.Statements = append(doc.Statements, statement{
			Vulnerability:   openVulnerability{ID: "https://www.cve.org/CVERecord?id=" + v.cve, Name: v.cve},
			Products:        []openProduct{product(f, v.in)},
			Status:          v.status,
			StatusNotes:     v.note,
			ActionStatement: v.action,
		})
	}
	// Its name is made of what it says: another document has another.
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("openvex: %w", err)
	}
	doc.ID = fmt.Sprintf("%s%x", openVEXPublic, sha256.Sum256(b))
	if b, err = json.MarshalIndent(doc, "", "  "); err != nil {
		return nil, fmt.Errorf("openvex: %w", err)
	}
	return append(b, '\n'), nil
}

// statusOf: a scanner is told of no doubt as if it were certain.
func statusOf(v vuln) status {
	if v.doubtful {
		return statusUnderInvestigation
	}
	return statusFixed
}

func product(f *agent.Fixed, w ware) openProduct {
	switch {
	case w.purl != "":
		return openProduct{ID: w.purl, Identifiers: map[string]string{"purl": w.purl}}
	case w.id == productID:
		return openProduct{ID: "linux-" + f.Kernel.Release + "@" + f.Kernel.BuildID}
	}
	return openProduct{ID: w.id}
}
