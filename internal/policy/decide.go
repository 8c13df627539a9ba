// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/trust"
)

// Decide says what a machine should do. It never leads
//
//   - to a live patch that is blocked, quarantined, taken out by hand or
//     reverted by the index,
//   - below Floor, unless the signed index says so: by a revert that reaches
//     the floor, or by blocking the very version that the floor stands on,
//   - away from what is there only because the index does not name it.
//
// A machine that has come to another policy goes to the newest live patch of
// that one, be its number lower: the fixes were chosen for others. Until there
// is one it keeps what it has.
//
// Taking out (a revert or recall of the index) does not wait for a window: a
// live patch that is known to be bad is worse than a change at noon. A hold
// stops that too, because a person on the spot asked for it. Putting back
// after a boot what this machine had before is no change, so neither a hold
// nor a window stands in its way.
func Decide(f Facts) Decision {
	x := f.Index
	switch {
	case f.Off:
		return Decision{Action: Keep, Reason: "tsugi=off on the kernel command line: nothing is done until the next boot"}
	case x == nil && f.Current > 0:
		return Decision{Action: Keep, Reason: fmt.Sprintf("%s; version %d stays", f.nothing(), f.Current)}
	case x == nil:
		return Decision{Action: Keep, Reason: f.nothing()}
	case x.Target.BuildID != f.BuildID:
		return Decision{Action: Keep, Reason: fmt.Sprintf("the index is for another %s: %s", f.kind(), cmp.Or(x.Target.Release, x.Target.Name))}
	}
	best, later, bar := choose(f)
	moved := f.Moved && f.Current > 0 && !offered(x, f.Current)
	if f.Current > 0 {
		if why := leave(f); why != "" {
			return away(f, best, why)
		}
	}
	switch {
	case moved && best != nil && best.Version != f.Current:
		return change(f, best, fmt.Sprintf("version %d is of the policy that this machine has now; version %d is not", best.Version, f.Current))
	case later != nil && later.Version != f.Current && (moved || later.Version > f.Current) && (best == nil || best.Version <= f.Current):
		return Decision{Action: Wait, Offer: later, Reason: fmt.Sprintf("version %d waits: its rollout has not come to this machine yet", later.Version)}
	case moved:
		return Decision{Action: Keep, Reason: fmt.Sprintf("version %d stays: the policy that this machine has now has no live patch for this %s yet", f.Current, f.kind())}
	case best != nil && best.Version > f.Current:
		return forward(f, best)
	case f.Current > 0:
		return Decision{Action: Keep, Reason: stay(f)}
	}
	return Decision{Action: Keep, Reason: none(f, bar)}
}

func (f *Facts) nothing() string {
	return "the tier has no live patch for this " + f.kind() + " and policy"
}

func (f *Facts) kind() string {
	if f.Package {
		return "package"
	}
	return "kernel"
}

// choose finds the newest live patch that this machine may have, the newest
// that it may have when its turn comes, and the lowest version that it may have.
func choose(f Facts) (best, later *trust.Offer, bar int) {
	bar = Bar(f.Index, f.Floor)
	for i := range f.Index.Patches {
		o := &f.Index.Patches[i]
		switch {
		case o.Version < bar || refused(f, o) != "":
		case slices.Contains(f.Waiting, o.ID):
			later = o
		default:
			best = o
		}
	}
	return best, later, bar
}

// Bar is the lowest version that a machine with this floor may load: the
// floor, or less where the index lets it down.
func Bar(x *trust.Index, floor int) int {
	if r := x.Revert; r != nil && floor > r.To && floor <= r.Below {
		floor = r.To
	}
	for floor > 0 && blocked(x, floor) != nil {
		below := 0
		for _, o := range x.Patches {
			if o.Version < floor && !inRevert(x, o.Version) {
				below = o.Version
			}
		}
		floor = below
	}
	return floor
}

// refused says why this machine must not load an offer, or "".
func refused(f Facts, o *trust.Offer) string {
	switch b := blocked(f.Index, o.Version); {
	case b != nil:
		return fmt.Sprintf("version %d is blocked: %s", o.Version, b.Reason)
	case inRevert(f.Index, o.Version):
		return fmt.Sprintf("version %d is reverted: %s", o.Version, f.Index.Revert.Reason)
	case slices.Contains(f.Quarantined, o.ID):
		return fmt.Sprintf("version %d is in quarantine on this machine", o.Version)
	case slices.Contains(f.Reverted, o.ID):
		return fmt.Sprintf("version %d was taken out by hand", o.Version)
	}
	return ""
}

// offered says whether an index offers a version.
func offered(x *trust.Index, version int) bool {
	return slices.ContainsFunc(x.Patches, func(o trust.Offer) bool { return o.Version == version })
}

func blocked(x *trust.Index, version int) *trust.BlockRef {
	for i := range x.Blocked {
		if x.Blocked[i].Version == version {
			return &x.Blocked[i]
		}
	}
	return nil
}

func inRevert(x *trust.Index, version int) bool {
	return x.Revert != nil && version > x.Revert.To && version <= x.Revert.Below
}

// leave says why the index wants away what is there, or "".
func leave(f Facts) string {
	if inRevert(f.Index, f.Current) && (!f.Moved || offered(f.Index, f.Current)) {
		return fmt.Sprintf("version %d is reverted: %s", f.Current, f.Index.Revert.Reason)
	}
	if b := blocked(f.Index, f.Current); b != nil && b.Recall {
		return fmt.Sprintf("version %d is recalled: %s", f.Current, b.Reason)
	}
	return ""
}

func away(f Facts, best *trust.Offer, why string) Decision {
	if f.Hold {
		return Decision{Action: Wait, Offer: best, Reason: why + "; it stays because this machine is held"}
	}
	if best == nil {
		return Decision{Action: Revert, Reason: why}
	}
	return Decision{Action: Apply, Offer: best, Reason: fmt.Sprintf("%s; version %d takes its place", why, best.Version)}
}

func forward(f Facts, best *trust.Offer) Decision {
	switch {
	case f.Current == 0 && best.Version == f.Floor:
		return Decision{Action: Apply, Offer: best, Reason: fmt.Sprintf("version %d was here before this boot", best.Version)}
	case f.Current > 0:
		return change(f, best, fmt.Sprintf("version %d replaces version %d", best.Version, f.Current))
	}
	return change(f, best, fmt.Sprintf("version %d is the newest of the tier", best.Version))
}

// change applies an offer as soon as nothing makes it wait.
func change(f Facts, best *trust.Offer, why string) Decision {
	switch {
	case f.Hold:
		return Decision{Action: Wait, Offer: best, Reason: fmt.Sprintf("version %d waits: this machine is held", best.Version)}
	case !f.InWindow:
		return Decision{Action: Wait, Offer: best, Reason: fmt.Sprintf("version %d waits for a maintenance window", best.Version)}
	}
	return Decision{Action: Apply, Offer: best, Reason: why}
}

// stay says why what is there is what should be there.
func stay(f Facts) string {
	if n := len(f.Index.Patches); n > 0 {
		newest := &f.Index.Patches[n-1]
		switch {
		case newest.Version > f.Current:
			return fmt.Sprintf("version %d stays: %s", f.Current, refused(f, newest))
		case newest.Version == f.Current && blocked(f.Index, f.Current) == nil:
			return fmt.Sprintf("version %d is the newest of the tier", f.Current)
		}
	}
	if b := blocked(f.Index, f.Current); b != nil {
		return fmt.Sprintf("version %d is blocked (%s) and stays until a newer one comes", f.Current, b.Reason)
	}
	return fmt.Sprintf("version %d stays: the tier has nothing newer", f.Current)
}

// none says why a machine without a live patch gets none.
func none(f Facts, bar int) string {
	if len(f.Index.Patches) == 0 {
		return f.nothing()
	}
	newest := &f.Index.Patches[len(f.Index.Patches)-1]
	if why := refused(f, newest); why != "" {
		return why
	}
	return fmt.Sprintf("version %d is older than version %d, which this machine had: only a signed revert leads back", newest.Version, bar)
}

// Barred says why the index forbids a version that came from the index of a
// policy, or "". A revert of one policy is none of another's versions, unless
// both have it; a block is everybody's.
func Barred(x *trust.Index, version int, policy string) string {
	if b := blocked(x, version); b == nil && policy != x.Policy && !offered(x, version) {
		return ""
	}
	return refused(Facts{Index: x}, &trust.Offer{Version: version})
}
