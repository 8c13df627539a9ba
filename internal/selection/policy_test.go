// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

const policyText = `name: databases
description: machines that run the old backup agent
min_severity: medium
exclusions:
- cve: CVE-2026-43210
  reason: breaks the backup agent
  owner: dba@example.org
  expires: 2026-12-24
- fix: net-ipv4-tcp
  reason: we measure a loss of throughput
  owner: net@example.org
`

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	p, err := ParsePolicy("file", []byte(policyText))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Name, "databases"))
	qt.Check(t, qt.Equals(p.MinSeverity, series.Medium))
	qt.Assert(t, qt.HasLen(p.Exclusions, 2))
	qt.Check(t, qt.IsTrue(p.Exclusions[0].Expires.Equal(time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC))))
	qt.Check(t, qt.HasLen(p.Ending(day, 40*24*time.Hour), 1))
	qt.Check(t, qt.HasLen(p.Ending(day, 24*time.Hour), 0))
	qt.Check(t, qt.HasLen(p.Ending(day.AddDate(1, 0, 0), 24*time.Hour), 0), qt.Commentf("it has ended"))

	empty, err := ParsePolicy("default", nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(empty.Name, "default"))
}

func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a misspelt key":           "name: a\nexclusion: []\n",
		"two documents":            "name: a\n---\nname: b\n",
		"no YAML":                  "name: [",
		"a name with a slash":      "name: a/b\n",
		"an unknown severity":      "name: a\nmin_severity: terrible\n",
		"an unknown scope":         "name: a\nscope: some\n",
		"an exclusion of nothing":  "name: a\nexclusions: [{reason: r, owner: o}]\n",
		"an exclusion of two":      "name: a\nexclusions: [{cve: CVE-2026-0001, fix: x, reason: r, owner: o}]\n",
		"a CVE that is none":       "name: a\nexclusions: [{cve: CVE-26-1, reason: r, owner: o}]\n",
		"no reason":                "name: a\nexclusions: [{cve: CVE-2026-0001, owner: o}]\n",
		"no owner":                 "name: a\nexclusions: [{cve: CVE-2026-0001, reason: r}]\n",
		"the same exclusion twice": "name: a\nexclusions: [{fix: x, reason: r, owner: o}, {fix: x, reason: q, owner: o}]\n",
		"a date that is none":      "name: a\nexclusions: [{fix: x, reason: r, owner: o, expires: soon}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParsePolicy("p", []byte(text))
			qt.Check(t, qt.Equals(code.Of(err), code.Code("TS1301")), qt.Commentf("%v", err))
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(policyText))
	f.Add([]byte("name: a\nexclusions:\n- &x {fix: a, reason: b, owner: c}\n- *x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy("p", b)
		if err != nil {
			if code.Of(err) != "TS1301" {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := p.Check(); err != nil {
			t.Fatalf("it was taken, and is not usable: %v", err)
		}
	})
}
