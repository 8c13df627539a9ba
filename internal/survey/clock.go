// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/series"
)

// clock tells how long the rest will take. Fixes of .c files alone, those with
// headers of a directory, and those with headers that half of the kernel
// includes take seconds, half a minute and minutes. Each kind is expected to
// take what was seen of it, and what is usual as long as little was seen: what
// is slow comes last, so that nothing of it is seen for long.
type clock struct {
	mu      sync.Mutex
	workers int
	kind    map[int]int // of each fix that is to be done
	rest    [kinds]int
	seen    [kinds]int
	spent   [kinds]time.Duration
}

const kinds = 3

// usual is what a fix of each kind takes, on the machines that this was made on.
func usual() [kinds]time.Duration {
	return [kinds]time.Duration{time.Second, 20 * time.Second, time.Minute}
}

// trust is after how many fixes of a kind what was seen counts as much as what
// is usual.
const trust = 6

func newClock(s *series.Series, todo []int, workers int) *clock {
	c := &clock{workers: max(workers, 1), kind: map[int]int{}}
	for _, i := range todo {
		k := kindOf(s.Fixes[i])
		c.kind[i] = k
		c.rest[k]++
	}
	return c
}

func kindOf(f *series.Fix) int {
	switch n := effort(f); {
	case n == 0:
		return 0
	case n < 100:
		return 1
	}
	return 2
}

// postpone makes a quick fix a slow one: it has to be joined with a header.
func (c *clock) postpone(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kind[i] > 0 {
		return
	}
	c.rest[0]--
	c.kind[i] = 1
	c.rest[1]++
}

func (c *clock) done(i int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.kind[i]
	c.rest[k]--
	c.seen[k]++
	c.spent[k] += took
}

// expected is how long the rest will take.
func (c *clock) expected() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var rest time.Duration
	for k, each := range usual() {
		each = (each*trust + c.spent[k]) / time.Duration(trust+c.seen[k])
		rest += each * time.Duration(c.rest[k])
	}
	return rest / time.Duration(c.workers)
}

// left is a short word on it.
func (c *clock) left() string {
	rest := c.expected()
	if rest < time.Minute {
		return "less than a minute left"
	}
	return fmt.Sprintf("%d min left", int(rest.Minutes()+0.5))
}
