// SPDX-License-Identifier: Apache-2.0

package build

import "github.com/tsugi-project/tsugi/internal/code"

// words are what refusals of the differ are called where no kernel is meant:
// the title and the usual way out. The codes are the same.
var words = map[code.Code][2]string{
	"TS4002": {"the changed function runs only when the file is loaded", "leave this hunk out if the rest stands without it, or restart"},
	"TS4010": {"the initial value of an existing variable changes", "let a function that changes anyway set it, or restart"},
	"TS4011": {"an existing variable changes its size", "leave it as it is and add a new variable, or restart"},
	"TS4012": {"data that only the loader reads changes", "leave this hunk out if the rest stands without it, or restart"},
	"TS4013": {"the fix adds what only a start would act on", "do the work in a function that changes anyway, or restart"},
	"TS4014": {"the changed code needs what exists only while the file is loaded", "write the change without it, or restart"},
	"TS4030": {"a struct changes its layout", "keep the layout: objects that exist have the old one; or restart"},
	"TS4031": {"the numbers of an enumeration change their meaning", "add enumerators at the end, or restart"},
	"TS8005": {"a static variable of a function starts anew", "the value that the process has is not carried over"},
	"TS8006": {"a changed constant table is carried as a copy", "its users are all replaced and see the new values"},
	"TS8004": {"the address of a new function is taken", "who keeps the pointer calls the new function also after a revert; it stays in the process for that"},
	"TS8008": {"a struct gets a new member where padding was", "objects that exist hold whatever was in the padding; see that the new code stands that"},
	"TS8009": {"the locking of a function changes", "see that old and new code of two threads can work together"},
	"TS8001": {"the function may never leave the stack", "processes that are in it stay pending: prove it with a running one"},
}

// kernelOnly are risks that mean nothing for programs.
var kernelOnly = map[code.Code]bool{"TS8002": true, "TS8003": true, "TS8007": true, "TS8013": true, "TS8014": true}

func worded(p *code.Problem) *code.Problem {
	w, ok := words[p.Code]
	if !ok {
		return p
	}
	q := *p
	q.What, q.Fix = w[0], w[1]
	return &q
}
