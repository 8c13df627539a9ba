// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"time"

	"github.com/tsugi-project/tsugi/internal/series"
)

// Source is one series to choose from, with what is known of its fixes.
type Source struct {
	Series *series.Series
	Facts  map[string]Fact
}

// Chosen is what a policy chooses, with all it was chosen from.
type Chosen struct {
	Series    *series.Series
	Facts     map[string]Fact
	Selection *Selection
}

// From joins sources in their order and lets a policy choose from them. Server
// and workers both ask it, so that they come to the same.
func From(sources []Source, p Policy, now time.Time) (*Chosen, error) {
	if len(sources) == 0 {
		return nil, badPushed("it names no series")
	}
	c := &Chosen{Facts: map[string]Fact{}}
	parts := make([]*series.Series, 0, len(sources))
	for _, s := range sources {
		parts = append(parts, s.Series)
		maps.Copy(c.Facts, s.Facts)
	}
	var err error
	if c.Series, err = Join(parts...); err != nil {
		return nil, err
	}
	c.Selection = Choose(c.Series, p, c.Facts, now)
	return c, nil
}

// Key is the name under which the live patch and the jobs of a selection are
// found: its Sharing, and with it how often somebody asked for the same to be
// built again.
func Key(sharing string, again int) string {
	if again == 0 {
		return sharing
	}
	h := sha256.Sum256(fmt.Appendf(nil, "tsugi rebuild %d of %s\n", again, sharing))
	return hex.EncodeToString(h[:])
}
