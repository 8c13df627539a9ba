// SPDX-License-Identifier: Apache-2.0

package authz

import "slices"

// May is what a subject has, each permission with the groups that it is for:
// none named is the whole fleet. It is what a console hides buttons by; what
// an operation is allowed is for Decide alone.
func (s Subject) May() map[Permission][]string {
	may := map[Permission][]string{}
	for _, p := range Permissions() {
		if s.Scopes != nil && !slices.Contains(s.Scopes, p) {
			continue
		}
		d, err := grant(s, Operation{Needs: p, Reach: Groups})
		if err != nil {
			continue
		}
		may[p] = append([]string{}, d.Groups...)
	}
	return may
}
