// SPDX-License-Identifier: Apache-2.0

package ptrace

import "time"

// LookAgain makes the next stop look at all processes.
func LookAgain() {
	everybody.mu.Lock()
	defer everybody.mu.Unlock()
	everybody.at = time.Time{}
}
