// SPDX-License-Identifier: Apache-2.0

package api

// Need is what would end a vulnerability that is open on a machine.
type Need string

// The needs, the gravest for an operator first.
const (
	NeedReboot Need = "reboot" // no live patch can do it: boot the updated kernel
	NeedModule Need = "module" // its fixed module is not what is loaded, or would load: see OpenCVE.Modules
	// NeedRestart: some processes of a package run the old code, although its live
	// patch is there, or no live patch can do it: see OpenCVE.Package.
	NeedRestart   Need = "restart"
	NeedLivePatch Need = "live-patch" // a live patch that the machine should have and does not run
	NeedBuild     Need = "build"      // a fix is pushed; no live patch with it is in the machine's tier yet
	NeedPolicy    Need = "policy"     // the machine's policy leaves it out
	// NeedLook: a fix is there, but it is only possible that it is the
	// vulnerability's: a changelog's entry fits it, and others too.
	NeedLook Need = "possible"
)

// Needs are all of them, in this order.
func Needs() []Need {
	return []Need{NeedReboot, NeedModule, NeedRestart, NeedLivePatch, NeedBuild, NeedPolicy, NeedLook}
}

// Counts tells whether somebody should do something: what a policy leaves out,
// and what is fixed as far as anybody knows, is no work that waits.
func (n Need) Counts() bool { return n != NeedPolicy && n != NeedLook }

// OpenCVE is a vulnerability that a machine has.
type OpenCVE struct {
	CVE       string   `json:"cve"`
	Severity  string   `json:"severity,omitempty"`
	Exploited bool     `json:"exploited,omitempty"`
	Need      Need     `json:"need"`
	Fix       string   `json:"fix,omitempty"` // id
	Title     string   `json:"title,omitempty"`
	Code      string   `json:"code,omitempty"`
	Why       string   `json:"why,omitempty"`
	Modules   []string `json:"modules,omitempty"` // that are loaded, or on the disk, in another build than the fixed one
	Patch     string   `json:"patch,omitempty"`   // LivePatch.ID that the machine should have
	Package   string   `json:"package,omitempty"` // target whose processes have it; "": the kernel
}

// Exposure counts machines by what is open on them. Silent machines count as
// they were last heard of.
type Exposure struct {
	Machines int            `json:"machines"` // with anything open that a policy does not leave out
	Needs    map[Need]int   `json:"needs,omitempty"`
	Worst    map[string]int `json:"worst,omitempty"` // by the highest severity; "exploited" is above them all, "unknown" below
}
