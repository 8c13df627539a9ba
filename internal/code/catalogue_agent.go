// SPDX-License-Identifier: Apache-2.0

package code

// TS94xx the agent: enrolment, cache, journal, local API; TS95xx health and the crash guard.
func agent() []Entry {
	return []Entry{}
}
