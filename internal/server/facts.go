// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/strict"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// facts are a check-in as the store keeps it: what stays the same from one
// check-in to the next when nothing happens on the machine.
type facts struct{ api.CheckIn }

func factsOf(c api.CheckIn) facts {
	c.Run, c.Uptime, c.Clock, c.Modules = "", 0, 0, nil
	if len(c.Packages) > 0 {
		c.Packages = slices.SortedFunc(slices.Values(c.Packages), comparePackages)
	}
	return facts{c}
}

// bytes is the JSON that the store keeps.
func (f facts) bytes() []byte {
	b, err := json.Marshal(f.CheckIn)
	if err != nil {
		panic(err) // strings, numbers and booleans
	}
	return b
}

// digest is the same for the same facts, whatever the processes do: see coarse.
func (f facts) digest() digest {
	if f.Agent == "" && f.BootID == "" {
		return digest{} // enrolled, and no check-in yet
	}
	if len(f.Packages) > 0 {
		f.Packages = coarse(f.Packages)
	}
	f.Stale = coarseStale(f.Stale)
	return digestOf(f.bytes())
}

// readFacts reads what bytes wrote. What it can't read is as good as nothing:
// the next check-in writes it anew.
func readFacts(b []byte) facts {
	var f facts
	if len(b) > 0 && json.Unmarshal(b, &f.CheckIn) != nil {
		return facts{}
	}
	return f
}

// decodeBody reads exactly one JSON value of a bounded body, with no fields
// that v does not have.
func decodeBody(b []byte, v any) error {
	if !utf8.Valid(b) {
		return refuse("TS7601", "body", "not UTF-8")
	}
	err := strict.JSON(b, v)
	if err == nil {
		return nil
	}
	f := refuse("TS7601", "body", strings.TrimPrefix(err.Error(), "json: "))
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		f.body.Where, f.body.Detail = "body."+te.Field, "a "+te.Value+" where "+te.Type.String()+" is expected"
	}
	return f
}

// checker collects what is wrong with the fields of a body.
type checker struct{ problems []api.ErrorDetail }

func (c *checker) add(where, format string, args ...any) {
	if len(c.problems) < 20 {
		c.problems = append(c.problems, api.ErrorDetail{Location: "body." + where, Message: fmt.Sprintf(format, args...)})
	}
}

// text checks a string: its length in characters, and that it holds nothing
// that would disturb a terminal or a log.
func (c *checker) text(where, s string, low, high int) {
	n := len(s)
	if n > high {
		n = utf8.RuneCountInString(s)
	}
	switch {
	case n < low:
		c.add(where, "at least %d characters are expected", low)
	case n > high:
		c.add(where, "at most %d characters are expected", high)
	}
	for _, r := range s {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			c.add(where, "a control character")
			return
		}
	}
}

// word checks a name without blanks and equals signs: lists of them are kept
// as one string.
func (c *checker) word(where, s string, high int) {
	if s == "" || len(s) > high || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '=' || r >= 0x7f }) {
		c.add(where, "not a name of 1 to %d characters", high)
	}
}

// blankless checks a text without blanks and control characters.
func (c *checker) blankless(where, s string, low, high int) {
	if len(s) < low || len(s) > high || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		c.add(where, "%d to %d characters without blanks are expected", low, high)
	}
}

func (c *checker) hex(where, s string, low, high int) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) < low || len(b) > high || strings.ToLower(s) != s {
		c.add(where, "%d to %d bytes in lower-case hexadecimal are expected", low, high)
	}
}

func (c *checker) number(where string, n, low, high int64) {
	if n < low || n > high {
		c.add(where, "not %d to %d", low, high)
	}
}

func (c *checker) err() error {
	if c.problems == nil {
		return nil
	}
	f := refuse("TS7601", "", "")
	f.body.Problems = c.problems
	f.body.Detail = "some fields are not as they should be"
	return f
}

// maxTime is the year 9999 in milliseconds, and more than any clock is wrong.
const maxTime = 253402300799999

func (c *checker) kernel(where string, k api.Kernel) {
	c.text(where+".release", k.Release, 1, 255)
	c.hex(where+".build_id", k.BuildID, 8, 64)
	c.text(where+".arch", k.Arch, 1, 32)
}

func (c *checker) patch(where string, p api.Patch) {
	c.text(where+".id", p.ID, 0, 255)
	c.text(where+".name", p.Name, 0, 64)
	c.number(where+".version", int64(p.Version), 0, 1<<31-1)
	switch p.State {
	case "", api.Known, api.Verified, api.Preflighted, api.Loading, api.Transitioning, api.Applied, api.Healthy,
		api.Reverting, api.Reverted, api.Quarantined, api.Blocked, api.Waiting:
	default:
		c.add(where+".state", "not a state of a live patch")
	}
	if p.Policy != "" && !trust.PolicyName(p.Policy) {
		c.add(where+".policy", "not a name of a policy")
	}
	c.number(where+".since", p.Since, 0, maxTime)
	if p.Problem != nil {
		c.problem(where+".problem", *p.Problem)
	}
}

func (c *checker) problem(where string, p api.Problem) {
	c.text(where+".code", string(p.Code), 0, 16)
	c.text(where+".what", p.What, 0, 1024)
	c.text(where+".where", p.Where, 0, 1024)
	c.text(where+".why", p.Why, 0, 4096)
	c.text(where+".fix", p.Fix, 0, 1024)
}

// mostPackages is how many packages a machine may name.
const mostPackages = 256

// packages checks the packages of a check-in. Names of targets and live patches
// are without blanks: lists of them are kept as one string.
func (c *checker) packages(all []api.Package) {
	if len(all) > mostPackages {
		c.add("packages", "at most %d packages are expected", mostPackages)
		return
	}
	ids := make(map[string]bool, len(all))
	for i, p := range all {
		at := fmt.Sprintf("packages[%d]", i)
		c.hex(at+".id", p.ID, 8, 64)
		if ids[p.ID] {
			c.add(at+".id", "twice")
		}
		ids[p.ID] = true
		c.blankless(at+".target", p.Target, 1, 255)
		c.patch(at+".patch", p.Patch)
		c.blankless(at+".patch.id", p.Patch.ID, 0, 255)
		n := p.Processes
		for name, k := range map[string]int{"protected": n.Protected, "pending": n.Pending, "unprotected": n.Unprotected} {
			c.number(at+".processes."+name, int64(k), 0, maxProcesses)
		}
		if len(p.Reasons) > 8 {
			c.add(at+".reasons", "at most 8 reasons are expected")
		}
		for j, r := range p.Reasons[:min(len(p.Reasons), 8)] {
			where := fmt.Sprintf("%s.reasons[%d]", at, j)
			c.problem(where+".problem", r.Problem)
			c.number(where+".processes", int64(r.Processes), 1, maxProcesses)
			c.text(where+".program", r.Program, 0, 64)
		}
		c.number(at+".stale", int64(p.Stale), 0, maxProcesses)
	}
}

// maxProcesses is the most that Linux has: PID_MAX_LIMIT.
const maxProcesses = 1 << 22

// checkCheckIn checks every field of a check-in.
func checkCheckIn(in *api.CheckIn) error {
	c := &checker{}
	c.text("agent", in.Agent, 1, 64)
	c.text("boot_id", in.BootID, 1, 64)
	c.text("run", in.Run, 1, 64)
	c.number("uptime", in.Uptime, 0, maxTime)
	c.number("clock", in.Clock, -maxTime, maxTime)
	c.kernel("kernel", in.Kernel)
	c.patch("patch", in.Patch)
	if in.ModulesDigest != "" {
		c.hex("modules_digest", in.ModulesDigest, sha256.Size, sha256.Size)
	}
	if len(in.Modules) > api.MaxModules {
		c.add("modules", "at most %d modules are expected", api.MaxModules)
	}
	for i, m := range in.Modules[:min(len(in.Modules), api.MaxModules)] {
		c.text(fmt.Sprintf("modules[%d].name", i), m.Name, 1, 64)
		if m.BuildID != "" {
			c.hex(fmt.Sprintf("modules[%d].build_id", i), m.BuildID, 1, 64)
		}
	}
	if c.problems == nil && len(in.Modules) > 0 && modulesDigest(in.Modules) != in.ModulesDigest {
		c.add("modules_digest", "not that of the modules")
	}
	if len(in.Replacements) > api.MaxModules {
		c.add("replacements", "at most %d modules are expected", api.MaxModules)
	}
	for i, r := range in.Replacements[:min(len(in.Replacements), api.MaxModules)] {
		at := fmt.Sprintf("replacements[%d]", i)
		c.word(at+".module", r.Module, 64)
		c.word(at+".state", string(r.State), 32)
		if r.Problem != nil {
			c.problem(at+".problem", *r.Problem)
		}
	}
	c.packages(in.Packages)
	c.stale(in.Stale)
	if len(in.Problems) > 32 {
		c.add("problems", "at most 32 problems are expected")
	}
	for i, p := range in.Problems[:min(len(in.Problems), 32)] {
		c.problem(fmt.Sprintf("problems[%d]", i), p)
	}
	return c.err()
}

// modulesDigest is what the machine computes over its modules too.
func modulesDigest(list []api.Module) string {
	h := sha256.New()
	for _, m := range list {
		fmt.Fprintf(h, "%s %s\n", m.Name, m.BuildID)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// checkReports checks every field of reports.
func checkReports(in *api.Reports) error {
	c := &checker{}
	if n := len(in.Reports); n < 1 || n > api.MaxReports {
		c.add("reports", "1 to %d reports are expected", api.MaxReports)
		return c.err()
	}
	for i := range in.Reports {
		r, at := &in.Reports[i], fmt.Sprintf("reports[%d].", i)
		c.text(at+"id", r.ID, 1, 36)
		c.number(at+"time", r.Time, -maxTime, maxTime)
		switch r.Kind {
		case api.ReportState, api.ReportCrash, api.ReportHealth, api.ReportAgent:
		default:
			c.add(at+"kind", "not a kind of report")
		}
		c.text(at+"boot_id", r.BootID, 0, 64)
		c.kernel(at+"kernel", r.Kernel)
		c.patch(at+"patch", r.Patch)
		c.number(at+"transition_ms", r.Transition, 0, maxTime)
		if len(r.Stalls) > 32 {
			c.add(at+"stalls", "at most 32 stalls are expected")
		}
		for j, s := range r.Stalls[:min(len(r.Stalls), 32)] {
			c.number(fmt.Sprintf("%sstalls[%d].pid", at, j), int64(s.PID), 0, 1<<31-1)
			c.text(fmt.Sprintf("%sstalls[%d].comm", at, j), s.Comm, 0, 64)
			c.text(fmt.Sprintf("%sstalls[%d].function", at, j), s.Function, 0, 512)
		}
		c.text(at+"detail", r.Detail, 0, 8192)
	}
	return c.err()
}

// checkEnroll checks every field of an enrolment.
func checkEnroll(in *api.EnrollRequest) error {
	c := &checker{}
	if kind, ok := api.CredentialKindOf(in.Token); !ok || kind != api.TokenCredential {
		return refuse("TS7621", "", "it is cut or mistyped, or no enrolment token at all")
	}
	c.hex("machine_id", in.MachineID, 16, 64)
	c.text("hostname", in.Hostname, 1, 255)
	c.text("recipient", in.Recipient, 1, 4096)
	c.text("agent", in.Agent, 1, 64)
	c.text("os", in.OS, 0, 255)
	c.kernel("kernel", in.Kernel)
	if in.Previous != "" {
		if kind, ok := api.CredentialKindOf(in.Previous); !ok || kind != api.MachineCredential {
			c.add("previous", "not a machine's credential")
		}
	}
	return c.err()
}
