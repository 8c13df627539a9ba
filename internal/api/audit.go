// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
)

// AuditEntry is one decision of a person or of the service. As JSON on a line
// it is one of an export.
type AuditEntry struct {
	Seq    int64  `json:"seq"` // its place in the log; 0: a program of before wrote it, and it has none yet
	ID     string `json:"id"`
	Time   int64  `json:"time"`
	Actor  string `json:"actor"`  // operator token's name, "machine:ID", "server"
	Action string `json:"action"` // "livepatch.promote"
	Object string `json:"object"`
	Detail string `json:"detail"`
	Hash   string `json:"hash"` // over itself and the entry before
}

// AuditLine is an entry as exports have it.
func AuditLine(e AuditEntry) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(e)
	return b.Bytes(), err
}

// AuditChain is how far the chain of the audit log was checked. A long log is
// checked in pieces: each question goes on with it until it is Done.
type AuditChain struct {
	Entries int64       `json:"entries"`        // there are
	Checked int64       `json:"checked"`        // are what was written, from the first on
	Hash    string      `json:"hash,omitempty"` // of the last one that was checked
	Done    bool        `json:"done"`
	At      int64       `json:"at"` // when this check began: what came later may not be in it
	Broken  *AuditBreak `json:"broken,omitempty"`
}

// AuditBreak is the first entry of the audit log that is not what was written.
type AuditBreak struct {
	Entry int64  `json:"entry"`
	ID    string `json:"id,omitempty"`
	Why   string `json:"why"`
}
