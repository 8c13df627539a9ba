// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"cmp"
	"fmt"

	debversion "github.com/knqyf263/go-deb-version"
)

// CompareVersions orders two Debian package versions as dpkg does: -1 when a
// is older than b, 0 when they are equal, 1 when a is newer.
func CompareVersions(a, b string) (int, error) {
	va, err := debversion.NewVersion(a)
	if err != nil {
		return 0, fmt.Errorf("package version %q: %w", a, err)
	}
	vb, err := debversion.NewVersion(b)
	if err != nil {
		return 0, fmt.Errorf("package version %q: %w", b, err)
	}
	return cmp.Compare(va.Compare(vb), 0), nil
}
