// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"fmt"
	"strings"

	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"
)

// Score is what a CVSS vector comes to.
type Score struct {
	Vector   string  // as it was given
	Version  string  // "3.1"
	Base     float64 // 0.0 to 10.0
	Severity string  // low, medium, high, critical; "" for 0.0
}

// ParseVector scores a CVSS vector of version 3.0, 3.1 or 4.0.
func ParseVector(v string) (Score, error) {
	if len(v) > 512 {
		return Score{}, fmt.Errorf("vector of %d characters", len(v))
	}
	s := Score{Vector: v}
	var err error
	switch {
	case strings.HasPrefix(v, "CVSS:3.0/"):
		var x *gocvss30.CVSS30
		if x, err = gocvss30.ParseVector(v); err == nil {
			s.Version, s.Base = "3.0", x.BaseScore()
		}
	case strings.HasPrefix(v, "CVSS:3.1/"):
		var x *gocvss31.CVSS31
		if x, err = gocvss31.ParseVector(v); err == nil {
			s.Version, s.Base = "3.1", x.BaseScore()
		}
	case strings.HasPrefix(v, "CVSS:4.0/"):
		var x *gocvss40.CVSS40
		if x, err = gocvss40.ParseVector(v); err == nil {
			s.Version, s.Base = "4.0", x.Score()
		}
	default:
		err = fmt.Errorf("not a vector of CVSS 3.0, 3.1 or 4.0")
	}
	if err != nil {
		return Score{}, fmt.Errorf("CVSS vector %.80q: %w", v, err)
	}
	s.Severity = Severity(s.Base)
	return s, nil
}

// Severity words a base score as section 5 of the CVSS 3.1 specification does.
func Severity(base float64) string {
	switch {
	case base >= 9:
		return "critical"
	case base >= 7:
		return "high"
	case base >= 4:
		return "medium"
	case base > 0:
		return "low"
	}
	return ""
}
