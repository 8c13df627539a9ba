// SPDX-License-Identifier: Apache-2.0

package ptrace

import "time"

// LookAgain makes the next stop look at all processes.
func LookAgain() {
	everybody.mu.Lock()
	defer everybody.mu.Unlock()
	everybody.at = time.Time{}
}

// OneByOne makes stops look at so many new numbers one by one, and puts back what
// was.
func OneByOne(most int) (back func()) {
	was := maxBorn
	maxBorn = most
	return func() { maxBorn = was }
}
