// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
)

// verdicts keeps what surveys of one target found out, a file for each fix:
// named by what the fix changes, so that a series that is split or ordered
// anew finds what is in it still.
type verdicts struct{ dir string }

// entry is a verdict as it is kept, with what it depends on beside the fix.
type entry struct {
	ID     string            `json:"id"`
	Engine string            `json:"engine"`         // of the program that found it
	With   map[string]string `json:"with,omitempty"` // required fixes, by id: what they change
	// Series is what the verdict depends on when a fix was missing something:
	// another fix of the series could have brought it.
	Series string   `json:"series,omitempty"`
	Stated []string `json:"stated,omitempty"` // what the series said it requires
	// Limit is how many objects the fix was allowed to reach.
	Limit   int      `json:"limit,omitempty"`
	Verdict *Verdict `json:"verdict"`
	// Before is what an earlier engine said, when that was something else.
	Before Outcome `json:"before,omitempty"`
}

func openVerdicts(dir string, t *kernel.Target) (*verdicts, error) {
	h := sha256.New()
	fmt.Fprintln(h, 1, t.Identity(), t.BuildID, t.ConfigDigest, t.Compiler, t.SourceVersion)
	v := &verdicts{filepath.Join(dir, t.Release+"-"+hex.EncodeToString(h.Sum(nil)[:8]))}
	return v, kernel.DiskError(v.dir, os.MkdirAll(v.dir, 0o755))
}

// contentOf names a fix by what it changes.
func contentOf(f *series.Fix) string {
	sum := sha256.Sum256(f.Diff.Raw)
	return hex.EncodeToString(sum[:16])
}

// get returns what is kept of a fix, or nil. A damaged file is as good as none:
// the verdict is found again and the file replaced.
func (v *verdicts) get(f *series.Fix) (*entry, error) {
	b, err := os.ReadFile(v.file(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, code.New("TS1404", v.dir, "").With(err)
	}
	var e entry
	if json.Unmarshal(b, &e) != nil || e.Verdict == nil {
		return nil, nil
	}
	return &e, nil
}

func (v *verdicts) put(f *series.Fix, e *entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return kernel.DiskError(v.dir, renameio.WriteFile(v.file(f), b, 0o644))
}

func (v *verdicts) file(f *series.Fix) string { return filepath.Join(v.dir, contentOf(f)+".json") }
